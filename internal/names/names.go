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

// Check returns nil if s is a name: valid UTF-8, 1 to MaxLen bytes, without control characters and
// without space around it. The error matches broker.ErrInvalidName.
func Check(s string) error {
	if visibleASCII(s) {
		return nil
	}
	switch {
	case s == "":
		return fmt.Errorf("%w: empty", broker.ErrInvalidName)
	case len(s) > MaxLen:
		return fmt.Errorf("%w: longer than %d bytes", broker.ErrInvalidName, MaxLen)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: not UTF-8", broker.ErrInvalidName)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: control character", broker.ErrInvalidName)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%w: space around it", broker.ErrInvalidName)
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
		return fmt.Errorf("%w: %q is reserved", broker.ErrInvalidName, id)
	}
	return Check(id)
}

// CheckMethod is Check of a method, which has at most MaxWord bytes.
func CheckMethod(s string) error {
	if len(s) > MaxWord {
		return fmt.Errorf("%w: method longer than %d bytes", broker.ErrInvalidName, MaxWord)
	}
	return Check(s)
}

// ValidCode reports whether s can be the code of an error.
func ValidCode(s string) bool { return len(s) <= MaxWord && Check(s) == nil }
