package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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

// checkMessage returns an error that matches ErrName, ErrMessage or ErrTooLarge. What [Chat]
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
	case len(id) > wire.MaxID:
		return fmt.Errorf("%w: message id longer than %d bytes", ErrName, wire.MaxID)
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
		return fmt.Errorf("%w: message type %q is reserved", ErrName, t)
	}
	return validType(t)
}

func validType(t string) error {
	if t == "" || t == wire.TypeChat {
		return nil
	}
	if wire.Reserved(t) {
		return fmt.Errorf("%w: message type %q is reserved", ErrName, t)
	}
	if len(t) > maxType {
		return fmt.Errorf("%w: message type longer than %d bytes", ErrName, maxType)
	}
	return ValidName(t)
}
