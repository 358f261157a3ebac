package realtime

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/wire"
)

// Message is what [Manager.Send] delivers.
type Message struct {
	// Type is the word by which clients tell messages apart: 1 to 64 bytes, rules of [ValidName].
	// Empty means "chat". The types of the protocol itself are refused: welcome, userjoined,
	// userleft, ping, pong, reply, error, call, joined, left, position, skipped, large.
	Type string
	// Sender is the user on whose behalf the message is sent. Empty means the application.
	Sender string
	// Guest tells the messages of one anonymous client from those of other anonymous clients and
	// of the application, which have no Sender either. The Manager makes it up for each anonymous
	// connection that sends, and a client that resumes its session keeps it. It is neither a secret
	// nor a credential. Rules of [ValidName]. Empty for the application and for users.
	Guest string
	// ID identifies the message among those with the same Sender and Guest: of two with the same
	// ID, clients of realtime.v1 show the first. 1 to 64 bytes, rules of [ValidName]. Empty: none.
	ID string
	// Content is any JSON value. Empty means null. Send neither changes it nor keeps it after it
	// has returned.
	Content json.RawMessage
	// Binary is content that is not JSON, in place of Content: clients of realtime.v1 get the bytes
	// as they are, plain clients get a string of base64 (RFC 4648, with padding). Send treats it
	// like Content. Nil means that the content is Content.
	Binary []byte
	// Time is when the message was sent, to the second. Zero means now.
	Time time.Time
	// TTL is how long the message is useful: a client that catches up later does not get it. Zero
	// means as long as it is kept. Negative means that it is never kept: a client that misses it is
	// not told, which suits typing notices and cursors.
	TTL time.Duration
	// Key groups messages of which the newest counts. When a client catches up on a room, it
	// reads pages of at most 64 KiB, and of several messages with one key on a page it gets the
	// newest alone. So it may get several, in order, the newest last. Each is kept and takes a place
	// nevertheless, and answers to requests for history have them all. 1 to 64 bytes, rules of
	// [ValidName]. Empty means that each message counts.
	Key string
}

// What bounds the type, the id and the key of a message, in bytes.
const (
	maxType = 64
	maxKey  = 64
)

// Chat returns the message that a chat client's text becomes, in the shape that
// plain clients know: type "chat", with the text, its sender and the time inside.
// Text that is not valid UTF-8 has its bad bytes replaced.
func Chat(sender, text string) Message { return chat(sender, text) }

func chat[T string | []byte](sender string, text T) Message {
	now := time.Now()
	return Message{
		Type: wire.TypeChat, Sender: sender, Time: now,
		Content: wire.ChatContent(sender, text, now),
	}
}

// checkSize returns an error that matches ErrTooLarge.
func checkSize(m *Message, maxBytes int) error {
	if n := len(m.Content) + len(m.Binary); n > maxBytes {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, maxBytes)
	}
	return nil
}

// checkMessage returns an error that matches ErrInvalidName, ErrInvalidMessage or ErrTooLarge. What [Chat]
// returns can only be too large.
func checkMessage(m *Message, maxBytes int) error {
	if err := checkSize(m, maxBytes); err != nil {
		return err
	}
	if err := validType(m.Type); err != nil {
		return err
	}
	if m.Sender != "" {
		if err := ValidName(m.Sender); err != nil {
			return fmt.Errorf("sender: %w", err)
		}
	}
	if m.Guest != "" {
		if err := ValidName(m.Guest); err != nil {
			return fmt.Errorf("guest: %w", err)
		}
	}
	if err := validID(m.ID); err != nil {
		return err
	}
	if err := validMessageKey(m.Key); err != nil {
		return err
	}
	switch {
	case len(m.Content) == 0:
		return nil
	case m.Binary != nil:
		return fmt.Errorf("%w: both Content and Binary", ErrInvalidMessage)
	default:
		return checkJSON(m.Content)
	}
}

// checkJSON returns an error that matches ErrInvalidMessage for what is not JSON in UTF-8.
func checkJSON(p []byte) error {
	if utf8.Valid(p) && json.Valid(p) {
		return nil
	}
	return fmt.Errorf("%w: content is not JSON", ErrInvalidMessage)
}

// validID is for the id of a message, which may be empty.
func validID(id string) error {
	switch {
	case id == "":
		return nil
	case len(id) > wire.MaxID:
		return names.Errorf("message id longer than %d bytes", wire.MaxID)
	default:
		return ValidName(id)
	}
}

// validMessageKey is for the key of a message, which may be empty.
func validMessageKey(key string) error {
	switch {
	case key == "":
		return nil
	case len(key) > maxKey:
		return names.Errorf("message key longer than %d bytes", maxKey)
	default:
		return ValidName(key)
	}
}

// validClientType is validType for a message of a client, which must not look like what only the
// server sends: "User_Joined" is as little a client's as "userjoined".
func validClientType(t string) error {
	if t == "" || t == wire.TypeChat {
		return nil
	}
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, t)
	if letters != "" && (letters == wire.TypeNotice || wire.Reserved(letters)) {
		return names.Errorf("message type %q is reserved", t)
	}
	return validType(t)
}

func validType(t string) error {
	if t == "" || t == wire.TypeChat {
		return nil
	}
	if wire.Reserved(t) {
		return names.Errorf("message type %q is reserved", t)
	}
	if len(t) > maxType {
		return names.Errorf("message type longer than %d bytes", maxType)
	}
	return ValidName(t)
}

// Target says which connections get a message. Make one with [ToAll], [ToRoom], [ToUser] or
// [ToConn], combine several with [Target.Union], and exclude receivers with [Target.Except] and
// [Target.ExceptUser]. Each connection gets at most one copy. The zero Target is nobody.
//
// A Target is plain data. It may be kept and used by many goroutines.
type Target struct {
	All   bool
	Rooms []string
	Users []string
	Conns []string // connection ids

	ExceptConns []string
	ExceptUsers []string
}

// ToAll is every connection, anonymous ones too.
func ToAll() Target { return Target{All: true} }

// ToRoom is every member of the rooms.
func ToRoom(names ...string) Target { return Target{Rooms: names} }

// ToUser is every connection of the users.
func ToUser(ids ...string) Target { return Target{Users: ids} }

// ToConn is the connections with these ids.
func ToConn(ids ...string) Target { return Target{Conns: ids} }

// Union is the receivers of t and those of u. The exceptions of both hold for all. A message to a
// union has one place among the others of each of its rooms and users, see [Manager.Send]. If some
// of its targets keep it, no queue drops it for a later message.
func (t Target) Union(u Target) Target {
	return Target{
		All:         t.All || u.All,
		Rooms:       slices.Concat(t.Rooms, u.Rooms),
		Users:       slices.Concat(t.Users, u.Users),
		Conns:       slices.Concat(t.Conns, u.Conns),
		ExceptConns: slices.Concat(t.ExceptConns, u.ExceptConns),
		ExceptUsers: slices.Concat(t.ExceptUsers, u.ExceptUsers),
	}
}

// Except is t without the connections with these ids: the one, for example, that
// the message came from. A connection that has resumed the session of one of them is left out too.
func (t Target) Except(connIDs ...string) Target {
	t.ExceptConns = slices.Concat(t.ExceptConns, connIDs)
	return t
}

// ExceptUser is t without all connections of these users. A name that cannot exist leaves nobody
// out, here and in Except: so it may be that of an anonymous connection, which is empty.
func (t Target) ExceptUser(ids ...string) Target {
	t.ExceptUsers = slices.Concat(t.ExceptUsers, ids)
	return t
}

// checkTarget returns an error that matches ErrInvalidName if the target names what cannot exist. What it
// leaves out may be anything.
func checkTarget(t *Target) error {
	for _, names := range []struct {
		of    string
		names []string
		valid func(string) error
	}{{"room", t.Rooms, ValidName}, {"user", t.Users, names.CheckUser}, {"conn", t.Conns, ValidName}} {
		for _, name := range names.names {
			if err := names.valid(name); err != nil {
				return about(names.of, err)
			}
		}
	}
	return nil
}

// nobody reports whether the target names no receivers.
func nobody(t *broker.Target) bool {
	return !t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0
}

// onlyRoom is the only room of the target, or empty.
func onlyRoom(t *broker.Target) string {
	if t.All || len(t.Rooms) != 1 || len(t.Users)+len(t.Conns) > 0 {
		return ""
	}
	return t.Rooms[0]
}

// cloneTarget returns a target that has nothing in common with t.
func cloneTarget(t broker.Target) broker.Target {
	t.Rooms, t.Users, t.Conns = slices.Clone(t.Rooms), slices.Clone(t.Users), slices.Clone(t.Conns)
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
	return t
}

// sorted returns names in order and each once. It does not change names.
func sorted(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// Result says what became of a message at the moment Send returned. Queued is not
// delivered: a connection may end before its queue is written.
type Result struct {
	// Matched is how many connections the target means: Queued + Dropped.
	Matched int
	// Queued is how many took the message into their queues.
	Queued int
	// Dropped is how many did not: their queue was full, or they were about to end.
	Dropped int
	// Offline is how many of the target's users have no connection.
	Offline int
	// Position is the message's place in what is kept, if it was sent to one room that keeps
	// history, or to one user who has an inbox. Zero otherwise.
	Position Position
	// Kept is how many rooms and inboxes keep it.
	Kept int
	// Full is how many inboxes did not take it, because its Sender or Guest has as much in them
	// as it may, see InboxOptions.Keep: their users do not get it.
	Full int
	// Duplicate says that it was sent before, with the same Sender and ID, and nobody got it now;
	// if it was sent to several rooms, that this is so in one of them.
	Duplicate bool
	// Local says that the numbers are complete: no broker carries the message to
	// other processes. Without it they may be less than what is true.
	Local bool
}

// sum adds what became of another part.
func (r *Result) sum(o Result) {
	r.Matched += o.Matched
	r.Queued += o.Queued
	r.Dropped += o.Dropped
	r.Offline += o.Offline
	r.Local = r.Local && o.Local
}

// DefaultRoom is where a plain client's message to its room goes while it is in none.
const DefaultRoom = "general"

// ValidName returns nil if s can name a user or a room: valid UTF-8, 1 to 255 bytes,
// no control character, no space around it. Names are compared byte by byte and are
// not normalised. The error matches [ErrInvalidName].
func ValidName(s string) error { return names.Check(s) }

// checkRoom and checkUser return an error that says what it is about, if there can be no such room
// or user.
func checkRoom(name string) error {
	if err := ValidName(name); err != nil {
		return about("room", err)
	}
	return nil
}

func checkUser(id string) error {
	if err := names.CheckUser(id); err != nil {
		return about("user", err)
	}
	return nil
}
