package realtime

import "github.com/realtime-go/realtime/internal/names"

// DefaultRoom is where a plain client's message to its room goes while it is in none.
const DefaultRoom = "general"

// ValidName returns nil if s can name a user or a room: valid UTF-8, 1 to 255 bytes,
// no control character, no space around it. Names are compared byte by byte and are
// not normalised. The error matches [ErrName].
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
