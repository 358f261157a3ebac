package wire

import (
	"strconv"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// The values of `show`: what a room shows of its members.
const (
	ShowNothing = "nothing"
	ShowCount   = "count"
	ShowMembers = "members"
)

// Entry is what a room shows of one member.
type Entry struct {
	Key, User   string // the user is empty for an anonymous connection
	Info, State []byte // JSON; empty: none
	Away        bool
}

// Size returns about how many bytes the entry has on the wire.
func (e *Entry) Size() int {
	return len(`"":{"user":"","info":,"state":,"away":true},`) +
		len(e.Key) + len(e.User) + len(e.Info) + len(e.State)
}

// append appends the entry as a member of an object.
func (e *Entry) append(buf []byte) []byte {
	buf = append(AppendString(buf, e.Key), ":{"...)
	if e.User != "" {
		buf = AppendString(append(buf, `"user":`...), e.User)
	}
	if len(e.Info) > 0 {
		buf = append(append(separate(buf), `"info":`...), e.Info...)
	}
	if len(e.State) > 0 {
		buf = append(append(separate(buf), `"state":`...), e.State...)
	}
	if e.Away {
		buf = append(separate(buf), `"away":true`...)
	}
	return append(buf, '}')
}

// PresenceFrame is a frame with what a room shows, or what has changed of it.
type PresenceFrame struct {
	Room          string
	Prev, Version uint64 // without Prev, the frame replaces everything; no Version if it shows nothing
	Show          string // empty in a difference
	Users, Conns  int
	Members       []*Entry
	Gone          []string // keys of those that are members no longer
}

// Encode returns the frame.
func (p *PresenceFrame) Encode() *sendqueue.Frame {
	size := Overhead + len(p.Room)
	for _, e := range p.Members {
		size += e.Size()
	}
	for _, key := range p.Gone {
		size += len(key) + len(`"":null,`)
	}
	buf := append(sendqueue.Grow(size), `{"message_type":"`+FramePresence+`","room":`...)
	buf = AppendString(buf, p.Room)
	if p.Prev > 0 {
		buf = strconv.AppendUint(append(buf, `,"prev":`...), p.Prev, 10)
	}
	if p.Version > 0 {
		buf = strconv.AppendUint(append(buf, `,"ver":`...), p.Version, 10)
	}
	if p.Show != "" {
		buf = AppendString(append(buf, `,"show":`...), p.Show)
	}
	buf = appendCounts(buf, p.Users, p.Conns)
	if len(p.Members)+len(p.Gone) > 0 {
		buf = append(buf, `,"members":{`...)
		for _, e := range p.Members {
			buf = e.append(separate(buf))
		}
		for _, key := range p.Gone {
			buf = append(AppendString(separate(buf), key), ":null"...)
		}
		buf = append(buf, '}')
	}
	return Announced(sendqueue.Seal(sendqueue.OpText, append(buf, '}')))
}

// MemberList returns the content of the answer to a request for the presence of a room. Entries are
// for a room that shows its members.
func MemberList(show string, users, conns int, entries []Entry) []byte {
	buf := appendCounts(AppendString([]byte(`{"show":`), show), users, conns)
	if show == ShowMembers {
		buf = append(buf, `,"members":{`...)
		for i := range entries {
			buf = entries[i].append(separate(buf))
		}
		buf = append(buf, '}')
	}
	return append(buf, '}')
}

func appendCounts(buf []byte, users, conns int) []byte {
	buf = strconv.AppendInt(append(buf, `,"user_count":`...), int64(users), 10)
	return strconv.AppendInt(append(buf, `,"connection_count":`...), int64(conns), 10)
}

// LatestKeys returns the frame that lists the keys of the values of a room. Room is empty for those
// of a connection.
func LatestKeys(room string, keys []string) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameLatest+`"`...)
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	buf = append(buf, `,"keys":[`...)
	for i, key := range keys {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = AppendString(buf, key)
	}
	return Announced(sendqueue.Seal(sendqueue.OpText, append(buf, "]}"...)))
}

// KeySize returns how many bytes a key takes in the frame that [LatestKeys] returns.
func KeySize(key string) int { return len(AppendString(nil, key)) + len(",") }

// LatestVersion returns the frame that says up to which version a client has the values of a room.
func LatestVersion(room string, version uint64) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameLatest+`","room":`...)
	buf = strconv.AppendUint(append(AppendString(buf, room), `,"ver":`...), version, 10)
	return sendqueue.Seal(sendqueue.OpText, append(buf, '}'))
}
