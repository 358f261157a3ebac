// Package names checks the names of users, rooms, connections, methods and errors.
package names

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/wire"
)

// The longest names in bytes, and the longest of methods and of the codes of errors.
const (
	MaxLen  = 255
	MaxWord = 64
)

// Error says why a name is invalid. It matches broker.ErrInvalidName.
type Error struct{ Reason string }

// Errorf returns an Error with a formatted reason.
func Errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Error returns the text of broker.ErrInvalidName and the reason.
func (e *Error) Error() string { return broker.ErrInvalidName.Error() + ": " + e.Reason }

// Unwrap returns broker.ErrInvalidName.
func (e *Error) Unwrap() error { return broker.ErrInvalidName }

// Check returns nil if s is a name: valid UTF-8, 1 to MaxLen bytes, without control characters and
// without space around it. Otherwise it returns an *Error.
func Check(s string) error {
	if visibleASCII(s) {
		return nil
	}
	switch {
	case s == "":
		return &Error{"empty"}
	case len(s) > MaxLen:
		return Errorf("longer than %d bytes", MaxLen)
	case !utf8.ValidString(s):
		return &Error{"not UTF-8"}
	case strings.ContainsFunc(s, unicode.IsControl):
		return &Error{"control character"}
	case strings.TrimSpace(s) != s:
		return &Error{"space around it"}
	}
	return nil
}

// visibleASCII reports whether s is a name of visible ASCII characters, as most are.
func visibleASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7F {
			return false
		}
	}
	return s != "" && len(s) <= MaxLen
}

// CheckUser is Check of a user id, which must not be a reserved target.
func CheckUser(id string) error {
	if id == wire.TargetAll || id == wire.TargetRoom {
		return Errorf("%q is reserved", id)
	}
	return Check(id)
}

// CheckMethod is Check of a method, which has at most MaxWord bytes.
func CheckMethod(s string) error {
	if len(s) > MaxWord {
		return Errorf("method longer than %d bytes", MaxWord)
	}
	return Check(s)
}

// ValidCode reports whether s can be the code of an error.
func ValidCode(s string) bool { return len(s) <= MaxWord && Check(s) == nil }
