package realtime

import (
	"encoding/json"
	"fmt"
	"github.com/realtime-go/realtime/internal/dedup"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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

// What bounds the type, the id and the key of a message, in bytes.
const (
	maxType = 64
	maxID   = 64
	maxKey  = 64
)

// The message types of the plain protocol.
const (
	typeChat   = "chat"
	typeNotice = "systemnotification"
	typeJoined = "userjoined"
	typeLeft   = "userleft"
	typeHello  = "welcome"
)

// Chat returns the message that a chat client's text becomes, in the shape that
// plain clients know: type "chat", with the text, its sender and the time inside.
// Text that is not valid UTF-8 has its bad bytes replaced.
func Chat(sender, text string) Message { return chat(sender, text) }

func chat[T string | []byte](sender string, text T) Message {
	now := time.Now()
	return Message{
		Type: typeChat, Sender: sender, Time: now,
		Content: chatContent(sender, text, now),
	}
}

func chatContent[T string | []byte](sender string, text T, at time.Time) []byte {
	buf := make([]byte, 0, 80+len(sender)+len(text))
	buf = append(buf, `{"type":"chat_message","sender_id":`...)
	buf = appendStringOrNull(buf, sender)
	buf = append(buf, `,"content":`...)
	buf = appendString(buf, text)
	buf = append(buf, `,"timestamp":`...)
	buf = strconv.AppendInt(buf, at.Unix(), 10)
	return append(buf, '}')
}

// scope is whose ids the message's id is one of.
func (m *Message) scope() dedup.Sender { return dedup.Sender{User: m.Sender, Guest: m.Guest} }

// checkSize returns an error that matches ErrTooLarge.
func (m *Message) checkSize(maxBytes int) error {
	if n := len(m.Content) + len(m.Binary); n > maxBytes {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, maxBytes)
	}
	return nil
}

// check returns an error that matches ErrName, ErrMessage or ErrTooLarge. What [Chat]
// returns can only be too large.
func (m *Message) check(maxBytes int) error {
	if err := m.checkSize(maxBytes); err != nil {
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
		return fmt.Errorf("%w: both Content and Binary", ErrMessage)
	default:
		return checkJSON(m.Content)
	}
}

// checkJSON returns an error that matches ErrMessage for what is not JSON in UTF-8.
func checkJSON(p []byte) error {
	if utf8.Valid(p) && json.Valid(p) {
		return nil
	}
	return fmt.Errorf("%w: content is not JSON", ErrMessage)
}

// validID is for the id of a message, which may be empty.
func validID(id string) error {
	switch {
	case id == "":
		return nil
	case len(id) > maxID:
		return fmt.Errorf("%w: message id longer than %d bytes", ErrName, maxID)
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
		return fmt.Errorf("%w: message key longer than %d bytes", ErrName, maxKey)
	default:
		return ValidName(key)
	}
}

// validClientType is validType for a message of a client, which must not look like what only the
// server sends: "User_Joined" is as little a client's as "userjoined".
func validClientType(t string) error {
	if t == "" || t == typeChat {
		return nil
	}
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, t)
	if letters != "" && (letters == typeNotice || reserved(letters)) {
		return fmt.Errorf("%w: message type %q is reserved", ErrName, t)
	}
	return validType(t)
}

// reserved reports whether a type is one of the protocol itself.
func reserved(t string) bool {
	switch t {
	case typeHello, typeJoined, typeLeft,
		"ping", "pong", "reply", "error", "call", "joined", "left", "position",
		"skipped", "large":
		return true
	}
	return false
}

func validType(t string) error {
	if t == "" || t == typeChat {
		return nil
	}
	if reserved(t) {
		return fmt.Errorf("%w: message type %q is reserved", ErrName, t)
	}
	if len(t) > maxType {
		return fmt.Errorf("%w: message type longer than %d bytes", ErrName, maxType)
	}
	return ValidName(t)
}
