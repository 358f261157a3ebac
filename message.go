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

// Message is a message for [Manager.Send]: content with its type and its sender.
type Message struct {
	// Type is the word by which clients distinguish messages: 1 to 64 bytes, rules of [ValidName].
	// Empty means "chat". The types of the protocol itself are refused: welcome, userjoined,
	// userleft, ping, pong, reply, error, call, joined, left, position, skipped, large, presence,
	// latest. Clients may not send systemnotification either, nor types with the same letters and
	// digits as one of these.
	Type string
	// Sender is the user on whose behalf the message is sent. Empty: the application, or an
	// anonymous client.
	Sender string
	// Guest distinguishes the messages of one anonymous client from those of other anonymous
	// clients and of the application, which have no Sender either. The Manager chooses it for each
	// anonymous connection that sends, and a client that resumes its session keeps it. It is
	// neither a secret nor a credential. Rules of [ValidName]. Empty for the application and for
	// users.
	Guest string
	// Conn is the id of the connection from which the message was sent, by which a receiver can
	// answer that one device. The Manager sets it for the messages of clients; the application may
	// set it. Clients of realtime.v1 get it if all receivers are named as users and connections, and
	// not if rooms or all are among them. If the session was resumed since, a message to the id
	// reaches nobody, while [Target.Except] of it excludes the connection that has resumed. Rules of
	// [ValidName]. Empty: not known.
	Conn string
	// ID identifies the message among those with the same Sender and Guest: of two messages with
	// the same ID, clients of realtime.v1 show the first. 1 to 64 bytes, rules of [ValidName].
	// Empty: no id.
	ID string
	// Content is any JSON value. Empty means null. Send does not change it, and keeps no reference
	// to it.
	Content json.RawMessage
	// Binary is content that is not JSON, in place of Content. Clients of realtime.v1 get the bytes
	// unchanged, and plain clients get a base64 string (RFC 4648, with padding). Send does not
	// change it, and keeps no reference to it. Nil: the content is Content.
	Binary []byte
	// Time is when the message was sent. Clients of realtime.v1 get it to the millisecond, and plain
	// clients to the second. Zero means now.
	Time time.Time
	// TTL is for how long the message is useful: a client that recovers later does not get it.
	// Zero: as long as it is kept. It must not be negative.
	TTL time.Duration
	// Latest makes the message the current value of this key in its room, or for its connection: 1
	// to 64 bytes, rules of [ValidName]. It replaces the earlier message with the key. A receiver
	// gets the newest value of each key when it is ready, and never the ones in between; a client
	// that joins the room gets the newest value of each key. Content null removes the key; Binary
	// works too. Values are not part of the history, and have no order with other messages. The
	// members of a room get them at most once in a tick of the room: 20 ms, or 0.1 ms for each
	// member if that is longer. So with 1,000 members they get values 10 times a second.
	//
	// The values of a room end when its last member has left. A room without members has none, and
	// drops a value: set the first ones in OnRoom, when RoomEvent.Opened is set. A client that may
	// send values to a room may replace and remove those of others, see Action.Latest. The values
	// for a connection end with its session: while the connection is lost, a value is kept for the
	// session, Result.Matched is 0, and the client gets the value when it resumes.
	//
	// The target must be exactly one room or one connection, without exceptions. A room has up to
	// 1,000 keys and 1 MiB of values, and a connection 64 keys and 1 MiB, and the keys have up to a
	// quarter of Limits.QueueBytes: beyond that, and if states and values have their share of
	// Limits.MemoryBytes, Send returns ErrFull. A message with Latest has no ID and no TTL, and is
	// not Ephemeral. Empty: the message is no value.
	//
	// If the broker serves several processes, each keeps the values that arrive while a room has
	// members there. If two set a key at the same time, all keep the same one of the two values.
	Latest string
	// Ephemeral marks an event that has no value later, such as the input of a player, or a reaction.
	// What is so until it changes, such as the position of a cursor, is the state of a member, see
	// ShowMembers, or a value, see Latest.
	//
	// The message is never kept, in no room and no inbox, and never waits behind other messages: a
	// receiver for which more than 64 messages or 64 KiB wait does not get it, nor does anybody
	// while memory is short, see Limits.MemoryBytes. Result.Dropped and Stats.DroppedEphemeral count
	// these receivers. The message ends no connection, whatever Options.Slow is: once queued, it
	// makes way for other messages.
	//
	// Clients that are away or miss the message are not told. A receiver that lags may get it before
	// older messages. For a handler, the message of a client waits with others of that client, and
	// is dropped if 64 of them wait already. An ephemeral message has no ID, no Latest and no TTL.
	Ephemeral bool
}

// The longest type of a message, and the longest key of a latest value, in bytes.
const (
	maxType   = 64
	maxLatest = 64
)

// Chat returns a message of type "chat" whose content is in the form that plain clients use: it has
// the text, the sender and the current time. Invalid UTF-8 in text is replaced. The Manager makes
// such a message of the text that a plain client sends.
func Chat(sender, text string) Message {
	now := time.Now()
	return Message{
		Type: wire.TypeChat, Sender: sender, Time: now,
		Content: wire.ChatContent(sender, text, now),
	}
}

// NewMessage returns a message of the type typ, see Message.Type. A []byte becomes its Binary, a
// json.RawMessage its Content as it is, and encoding/json encodes any other content. NewMessage
// copies no bytes, and [Manager.Send] keeps no reference to them. It returns an error that matches
// ErrInvalidMessage if content cannot be encoded; Send checks everything else.
func NewMessage(typ string, content any) (Message, error) {
	if content == nil { // a message always has content, in contrast to a call
		content = json.RawMessage("null")
	}
	c, err := wire.ContentOf(content)
	if err != nil {
		return Message{}, fmt.Errorf("%w: content of %q: %w", ErrInvalidMessage, typ, err)
	}
	return Message{Type: typ, Content: c.JSON, Binary: c.Binary}, nil
}

// checkSize returns an error that matches ErrTooLarge if the content is larger than maxBytes.
func checkSize(m *Message, maxBytes int) error {
	if n := len(m.Content) + len(m.Binary); n > maxBytes {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, maxBytes)
	}
	return nil
}

// checkContent returns an error that matches ErrInvalidMessage or ErrTooLarge if a call or an
// answer cannot have the content.
func (m *Manager) checkContent(c wire.Content) error {
	return checkMessage(&Message{Content: c.JSON, Binary: c.Binary}, m.opts.maxContent())
}

// checkMessage returns an error that matches ErrInvalidName, ErrInvalidMessage or ErrTooLarge, or
// nil if the message is valid.
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
	if m.Conn != "" {
		if err := ValidName(m.Conn); err != nil {
			return fmt.Errorf("conn: %w", err)
		}
	}
	if err := validID(m.ID); err != nil {
		return err
	}
	if err := validLatest(m.Latest); err != nil {
		return err
	}
	if err := checkLifetime(m); err != nil {
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

// checkLifetime returns an error that matches ErrInvalidMessage if fields that say how long the
// message lasts contradict each other.
func checkLifetime(m *Message) error {
	switch {
	case m.TTL < 0:
		return fmt.Errorf("%w: negative TTL", ErrInvalidMessage)
	case m.Ephemeral && (m.ID != "" || m.Latest != "" || m.TTL > 0):
		return fmt.Errorf("%w: an ephemeral message with ID, Latest or TTL", ErrInvalidMessage)
	case m.Latest != "" && (m.ID != "" || m.TTL > 0):
		return fmt.Errorf("%w: a message with Latest and ID or TTL", ErrInvalidMessage)
	}
	return nil
}

// checkLatest returns an error that matches ErrInvalidMessage if the message has Latest and its
// target is not exactly one room or one connection.
func checkLatest(m *Message, t *Target) error {
	if m.Latest == "" || !t.All && len(t.Users) == 0 && len(t.Rooms)+len(t.Conns) == 1 &&
		len(t.ExceptConns)+len(t.ExceptUsers) == 0 {
		return nil
	}
	return fmt.Errorf("%w: the target of a message with Latest is not one room or one connection",
		ErrInvalidMessage)
}

// checkJSON returns an error that matches ErrInvalidMessage if content is not JSON in UTF-8.
func checkJSON(content []byte) error {
	if utf8.Valid(content) && wire.ValidJSON(content) {
		return nil
	}
	return fmt.Errorf("%w: content is not JSON", ErrInvalidMessage)
}

// validID checks the id of a message, which may be empty.
func validID(id string) error { return validWord("id", id, wire.MaxID) }

// validLatest checks the key of a latest value, which may be empty.
func validLatest(key string) error { return validWord("key", key, maxLatest) }

// validWord checks a field of a message, which may be empty.
func validWord(field, s string, maxBytes int) error {
	switch {
	case s == "":
		return nil
	case len(s) > maxBytes:
		return names.Errorf("message %s longer than %d bytes", field, maxBytes)
	default:
		return ValidName(s)
	}
}

// validClientType checks the type of a message from a client. In addition to validType, it refuses
// types that look like those that only the server sends: "User_Joined" as well as "userjoined".
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

// validType checks the type of a message, which may be empty.
func validType(t string) error {
	if wire.Reserved(t) {
		return names.Errorf("message type %q is reserved", t)
	}
	return validWord("type", t, maxType)
}

// Target describes the receivers of a message. Make one with [ToAll], [ToRoom], [ToUser] or
// [ToConn], combine several with [Target.Union], and exclude receivers with [Target.Except] and
// [Target.ExceptUser]. Each connection gets at most one copy of a message. The zero Target has no
// receivers: it is the target of a message to the server itself, see [Inbound].
//
// A Target is plain data. It may be kept, and may be used by several goroutines as long as none
// changes it.
type Target struct {
	All   bool
	Rooms []string
	Users []string
	Conns []string // connection ids

	ExceptConns []string
	ExceptUsers []string
}

// IsZero reports whether t is the zero Target. In [Inbound] and [Action], that is the target of a
// client's message to the server.
func (t Target) IsZero() bool {
	return noReceivers((*broker.Target)(&t)) && len(t.ExceptConns)+len(t.ExceptUsers) == 0
}

// ToAll returns the target of all connections, including anonymous ones.
func ToAll() Target { return Target{All: true} }

// ToRoom returns the target of all members of the rooms. It keeps names.
func ToRoom(names ...string) Target { return Target{Rooms: names} }

// ToUser returns the target of all connections of the users. It keeps ids.
func ToUser(ids ...string) Target { return Target{Users: ids} }

// ToConn returns the target of the connections with these ids. It keeps ids.
func ToConn(ids ...string) Target { return Target{Conns: ids} }

// Union returns the target of the receivers of t and of u, without those that t or u excludes. A
// message to a union has one place in the order of messages of each of its rooms and users, see
// [Manager.Send]. If some of the targets keep the message, no queue drops it in favour of a later
// message.
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

// Except returns t without the connections with these ids, for example the connection that the
// message came from. A connection that resumed the session of one of them is excluded too. An id
// that is not the id of a connection excludes nothing.
func (t Target) Except(connIDs ...string) Target {
	t.ExceptConns = slices.Concat(t.ExceptConns, connIDs)
	return t
}

// ExceptUser returns t without all connections of these users. An id that no user can have excludes
// nobody: so it may be the UserID of an anonymous connection, which is empty.
func (t Target) ExceptUser(ids ...string) Target {
	t.ExceptUsers = slices.Concat(t.ExceptUsers, ids)
	return t
}

// Room returns the room of a target that has one room and no other receivers, or "". Exceptions do
// not matter. So it returns the room of the message of a client to a room, see Inbound.Target.
func (t Target) Room() string { return onlyRoom((*broker.Target)(&t)) }

// checkTarget returns an error that matches ErrInvalidName if a room, a user or a connection of the
// target is invalid. Exceptions may be invalid.
func checkTarget(t *Target) error {
	for _, names := range []struct {
		of    string
		names []string
		valid func(string) error
	}{
		{"room", t.Rooms, ValidName}, {"user", t.Users, names.CheckUser},
		{"conn", t.Conns, ValidName},
	} {
		for _, name := range names.names {
			if err := names.valid(name); err != nil {
				return about(names.of, err)
			}
		}
	}
	return nil
}

// noReceivers reports whether the target names no receivers.
func noReceivers(t *broker.Target) bool {
	return !t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0
}

// onlyRoom returns the room of a target that has one room and no other receivers, or "".
func onlyRoom(t *broker.Target) string {
	if t.All || len(t.Rooms) != 1 || len(t.Users)+len(t.Conns) > 0 {
		return ""
	}
	return t.Rooms[0]
}

// isPrivate reports whether the target names all receivers as users and connections. They may know
// the connection of the sender. In rooms, the ids of connections are not public.
func isPrivate(t *broker.Target) bool { return !t.All && len(t.Rooms) == 0 }

// onlyUser reports whether the target is one user and nothing else.
func onlyUser(t *broker.Target) bool {
	return !t.All && len(t.Users) == 1 && len(t.Rooms)+len(t.Conns) == 0
}

// cloneTarget returns a copy of t that shares no memory with t.
func cloneTarget(t broker.Target) broker.Target {
	t.Rooms, t.Users, t.Conns = slices.Clone(t.Rooms), slices.Clone(t.Users), slices.Clone(t.Conns)
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
	return t
}

// sorted returns the names, sorted and each once. It does not change names.
func sorted(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// Result is the state of a message when Send returned. Queued does not mean delivered: a connection
// can end before its queue is written. The counts are those of this process.
type Result struct {
	// Matched is the number of connections to which the message was to go: Queued + Dropped.
	Matched int
	// Queued is the number of connections whose queues took the message.
	Queued int
	// Dropped is the number of connections whose queues did not take it: a queue was full, or its
	// connection was about to end.
	Dropped int
	// Offline is the number of the target's users who have no connection: if their inbox took the
	// message, in any process; if there are no inboxes, in this process. A user whose inbox did not
	// take the message does not count.
	Offline int
	// Position is the position of the message, if the target is one room that keeps history or one
	// user who has an inbox. Zero otherwise.
	Position Position
	// Kept is the number of rooms and inboxes that keep the message.
	Kept int
	// Full is the number of inboxes that did not take the message, because its Sender or Guest has
	// as much in them as it may, see InboxOptions.Keep. Their users do not get it.
	Full int
	// Duplicate reports whether a message with the same Sender, Guest and ID was sent before, so
	// this one was neither kept nor delivered. If the target has several rooms or inboxes that keep
	// messages, this is true of at least one of them.
	Duplicate bool
	// Nodes is how many other processes took the parts of the message that nothing keeps, if the
	// broker connects several, each counted once for each room, user and connection of the target.
	// The other counts are those of this process. Negative: not known, for example because the
	// processes cannot reach each other.
	Nodes int
}

// sum adds the counts of another part.
func (r *Result) sum(o Result) {
	r.Matched += o.Matched
	r.Queued += o.Queued
	r.Dropped += o.Dropped
	r.Offline += o.Offline
}

// DefaultRoom is the room to which a plain client's message to its room goes while the client is in
// no room.
const DefaultRoom = "general"

// ValidName returns nil if s can name a room or a user: valid UTF-8 of 1 to 255 bytes, without
// control characters and without space around it. A user cannot be named "all" or "room", which
// ValidName does not check. Names are compared byte by byte and are not normalised. The error
// matches [ErrInvalidName].
func ValidName(s string) error { return names.Check(s) }

// checkRoom returns an error that matches ErrInvalidName if no room can have this name.
func checkRoom(name string) error {
	if err := ValidName(name); err != nil {
		return about("room", err)
	}
	return nil
}

// checkUser returns an error that matches ErrInvalidName if no user can have this id.
func checkUser(id string) error {
	if err := names.CheckUser(id); err != nil {
		return about("user", err)
	}
	return nil
}
