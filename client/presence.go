package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// What a room shows of its members, see Presence.Show.
const (
	ShowNothing = "nothing"
	ShowCount   = "count"
	ShowMembers = "members"
)

// Presence is what a room shows of its members at one time. It is never changed, so it may be kept
// and shared; the receiver must not change it either.
type Presence struct {
	// Show is what the room shows: [ShowNothing], [ShowCount] or [ShowMembers]. A room that shows
	// its members shows only their number while it has too many of them.
	Show string
	// UserCount is the number of users, without anonymous clients. ConnCount is the number of
	// connections, each of which is one member.
	UserCount, ConnCount int
	// Members are the members, sorted by user and then by key. Nil unless Show is ShowMembers.
	Members []Member
}

// Member is what a room shows of one member, which is one connection.
type Member struct {
	// Key distinguishes the member from the others of the room. It stays the same while the client
	// of the member reconnects.
	Key  string
	User string // empty for an anonymous client
	// Info is what the application of the server says about the member, and State what its client
	// says, see [Client.SetState]. Both are JSON, and nil if there is none.
	Info, State json.RawMessage
	// Away reports whether the connection of the member is lost and may come back.
	Away bool
	// Me reports whether the member is this client.
	Me bool
}

// PresentUser is a user with its members in a room.
type PresentUser struct {
	User    string          // empty for an anonymous client
	Info    json.RawMessage // that of the first member
	Members []Member        // sorted by key
	Away    bool            // all members are away
	Me      bool            // one of the members is this client
}

// Users groups the members by user, in their order. Each anonymous client is a user of its own.
func (p Presence) Users() []PresentUser {
	var users []PresentUser
	for i, m := range p.Members {
		if i == 0 || m.User == "" || m.User != p.Members[i-1].User {
			users = append(users, PresentUser{User: m.User, Info: m.Info, Away: true})
		}
		u := &users[len(users)-1]
		u.Members = append(u.Members, m)
		u.Away, u.Me = u.Away && m.Away, u.Me || m.Me
	}
	return users
}

// PresenceChange is the difference between two successive values of Presence. Each member of one of
// the two that is not the same in the other is in one of the lists, each of which is sorted like
// Presence.Members. If the room no longer shows its members, all of them are in Left. A member whose
// key belongs to another user now is another member: one is in Left and one in Joined.
type PresenceChange struct {
	Joined, Left, Updated []Member
}

// Presence returns what a room shows of its members, as far as the client knows: it must have asked
// for that with JoinOptions.Presence. It reports false if it has not, and until the first answer of
// the server. While the client reconnects, it returns what it last knew.
func (c *Client) Presence(room string) (Presence, bool) {
	return c.session.members.presenceOf(room)
}

// FetchPresence asks the server what a room shows of its members now. It is for rooms that the
// client has not joined with JoinOptions.Presence. It waits like [Client.Join] and returns the same
// errors; one with the code "forbidden" if the room shows nothing.
func (c *Client) FetchPresence(ctx context.Context, room string) (Presence, error) {
	if err := realtime.ValidName(room); err != nil {
		return Presence{}, err
	}
	content, err := c.request(ctx, outgoing{Type: wire.RequestPresence, Room: room}, true, nil)
	if err != nil {
		return Presence{}, err
	}
	var f presenceFrame
	if err := json.Unmarshal(content, &f); err != nil {
		return Presence{}, fmt.Errorf("realtime: answer to presence: %w", err)
	}
	var none fold
	next, _ := none.next(&f, c.session.members.ownKey(room))
	return next, nil
}

// maxVersion is the largest version of the protocol.
const maxVersion = 1<<53 - 1

// maxPresenceBytes limits the size of the members of a room. A server shows fewer.
const maxPresenceBytes = 4 << 20

// presenceFrame is a frame of type presence, or the content of an answer to a request for presence.
type presenceFrame struct {
	Room      string            `json:"room"`
	Prev      *uint64           `json:"prev"` // nil: the frame replaces everything
	Version   uint64            `json:"ver"`
	Show      string            `json:"show"`
	UserCount *int              `json:"user_count"`
	ConnCount *int              `json:"connection_count"`
	Members   map[string]*entry `json:"members"` // by key; nil: gone
}

// entry is what a frame says about a member.
type entry struct {
	User  string          `json:"user"`
	Info  json.RawMessage `json:"info"`
	State json.RawMessage `json:"state"`
	Away  bool            `json:"away"`
}

func (e *entry) member(key string) Member {
	return Member{Key: key, User: e.User, Info: wire.OrNil(e.Info), State: wire.OrNil(e.State), Away: e.Away}
}

// fold is what a room shows, as of a version.
type fold struct {
	version uint64 // 0: nothing has been received
	shown   Presence
}

// accepts reports whether the frame can be applied: whether it is no difference from another
// version.
func (f *fold) accepts(p *presenceFrame) bool { return p.Prev == nil || *p.Prev == f.version }

// next returns what the room shows after a frame. own is the key of this client. It reports false
// if the members are too large. It does not change the previous members, which the application may
// have.
func (f *fold) next(p *presenceFrame, own string) (next Presence, ok bool) {
	before := f.shown
	next = Presence{
		Show:      cmp.Or(p.Show, before.Show, ShowCount),
		UserCount: countOr(p.UserCount, before.UserCount),
		ConnCount: countOr(p.ConnCount, before.ConnCount),
	}
	if next.Show != ShowMembers {
		return next, true
	}
	all := make(map[string]Member, len(before.Members)+len(p.Members))
	if p.Prev != nil {
		for _, m := range before.Members {
			all[m.Key] = m
		}
	}
	for key, e := range p.Members {
		if e == nil || key == "" {
			delete(all, key)
		} else {
			all[key] = e.member(key)
		}
	}
	size := 0
	next.Members = make([]Member, 0, len(all))
	for _, m := range all {
		m.Me = m.Key == own
		size += m.size()
		next.Members = append(next.Members, m)
	}
	slices.SortFunc(next.Members, compareMembers)
	return next, size <= maxPresenceBytes
}

func countOr(n *int, before int) int {
	if n == nil {
		return before
	}
	return max(*n, 0)
}

// compareMembers is the order of Presence.Members.
func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Key, b.Key))
}

// size returns the size of the member, in bytes.
func (m *Member) size() int { return 128 + len(m.Key) + len(m.User) + len(m.Info) + len(m.State) }

func (m *Member) equal(o *Member) bool {
	return m.Key == o.Key && m.User == o.User && m.Away == o.Away && m.Me == o.Me &&
		bytes.Equal(m.Info, o.Info) && bytes.Equal(m.State, o.State)
}

// compare returns the change from before to now. It reports false if they are the same.
func compare(before, now *Presence) (change PresenceChange, changed bool) {
	old := make(map[string]*Member, len(before.Members))
	for i := range before.Members {
		old[before.Members[i].Key] = &before.Members[i]
	}
	for i := range now.Members {
		m := &now.Members[i]
		was := old[m.Key]
		if was == nil || was.User != m.User {
			change.Joined = append(change.Joined, *m)
			continue
		}
		delete(old, m.Key)
		if !was.equal(m) {
			change.Updated = append(change.Updated, *m)
		}
	}
	for i := range before.Members {
		if m := &before.Members[i]; old[m.Key] != nil {
			change.Left = append(change.Left, *m)
		}
	}
	return change, len(change.Joined)+len(change.Left)+len(change.Updated) > 0 ||
		before.Show != now.Show || before.UserCount != now.UserCount ||
		before.ConnCount != now.ConnCount
}
