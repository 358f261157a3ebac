package broker

import (
	"encoding/json"
	"time"
)

// Message is what Send delivers.
type Message struct {
	// Type is the word by which clients tell messages apart: 1 to 64 bytes, rules of
	// [ValidName]. Empty means "chat". The types of the protocol itself are refused:
	// welcome, userjoined, userleft, ping, pong, reply, error, call,
	// joined, left, position, skipped, large.
	Type string `json:"type,omitempty"`
	// Sender is the user on whose behalf it is sent. Empty means the server.
	Sender string `json:"sender,omitempty"`
	// Guest tells the messages of one anonymous client from those of others, and from the
	// application's, which have no Sender either. A Manager makes it up for each anonymous
	// connection that sends, and a client that resumes its session keeps it. It is no secret and
	// no credential. Rules of [ValidName]. Empty for the application and for users.
	Guest string `json:"guest,omitempty"`
	// ID is how clients of realtime.v1 recognise a message that comes twice: of two with the
	// same Sender, Guest and ID they show the first. 1 to 64 bytes, rules of [ValidName], and
	// unlike any other of the sender's. Empty: none.
	ID string `json:"id,omitempty"`
	// Content is any JSON value. Empty means null. Send does not change it, and does
	// not keep it after it has returned.
	Content json.RawMessage `json:"content,omitempty"`
	// Binary is content that is not JSON, in place of Content: clients of realtime.v1 get the
	// bytes as they are, and plain ones a string of base64 (RFC 4648, with padding). Send
	// treats it like Content. Nil: the content is Content.
	Binary []byte `json:"binary,omitzero"`
	// Time is when it was sent, to the second. Zero means now.
	Time time.Time `json:"time,omitzero"`
	// TTL is for how long it is of use: who catches up later does not get it. Zero: for as long as
	// it is kept. Negative: it is not kept at all, and who misses it never learns of it: typing
	// notices and cursors, which would take the place of what counts in a room's history.
	TTL time.Duration `json:"ttl,omitempty"`
	// Key names what it is about, where older messages need not be given any more: a client that
	// catches up on a room is given what it has missed by pages of at most 64 KiB, and of those with
	// one key on a page the newest alone. So it may get several, in their order, and the last one is
	// the newest. Each is kept nevertheless, and takes a place. It does not hold for answers to
	// requests for history. 1 to 64 bytes, rules of [ValidName]. Empty: each counts.
	Key string `json:"key,omitempty"`
}

// Sender is what the ids of messages are unique within: a user, an anonymous client, or, if both
// fields are empty, the application.
type Sender struct{ User, Guest string }

// From returns the sender of the message.
func (m *Message) From() Sender { return Sender{m.Sender, m.Guest} }
