package realtime

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

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
