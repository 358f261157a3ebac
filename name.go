package realtime

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/wire"
)

// maxName is the longest name, in bytes, and maxMethod the longest of a method or an error.
const (
	maxName   = 255
	maxMethod = 64
)

// DefaultRoom is where a plain client's message to its room goes while it is in none.
const DefaultRoom = "general"

// ValidName returns nil if s can name a user or a room: valid UTF-8, 1 to 255 bytes,
// no control character, no space around it. Names are compared byte by byte and are
// not normalised. The error matches [ErrName].
func ValidName(s string) error {
	if plainName(s) {
		return nil
	}
	switch {
	case s == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(s) > maxName:
		return fmt.Errorf("%w: longer than %d bytes", ErrName, maxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: not UTF-8", ErrName)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: control character", ErrName)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%w: space around it", ErrName)
	}
	return nil
}

// plainName reports whether s is a name of visible ASCII, as most are.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7F {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// validUser is ValidName for a user id, which must not look like a target.
func validUser(id string) error {
	if id == wire.TargetAll || id == wire.TargetRoom {
		return fmt.Errorf("%w: %q is reserved", ErrName, id)
	}
	return ValidName(id)
}

// checkRoom and checkUser return an error that says what it is about, if there can be no such room
// or user.
func checkRoom(name string) error {
	if err := ValidName(name); err != nil {
		return about("room", err)
	}
	return nil
}

func checkUser(id string) error {
	if err := validUser(id); err != nil {
		return about("user", err)
	}
	return nil
}

// validMethod is ValidName for a method, which is at most as long as a message type.
func validMethod(s string) error {
	if len(s) > maxMethod {
		return fmt.Errorf("%w: method longer than %d bytes", ErrName, maxMethod)
	}
	return ValidName(s)
}

// validCode reports whether s can be the code of an error.
func validCode(s string) bool { return len(s) <= maxMethod && ValidName(s) == nil }
