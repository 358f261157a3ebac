package admission

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrTooManyConns says that a limit of connections is reached.
	ErrTooManyConns = errors.New("realtime: too many connections")
	// ErrAddressFull is ErrTooManyConns of one address.
	ErrAddressFull = fmt.Errorf("%w from one address", ErrTooManyConns)
	// ErrOverloaded says that memory is short.
	ErrOverloaded = errors.New("realtime: short of memory")
	// ErrDenied says that a user is kept out.
	ErrDenied = errors.New("realtime: denied")
)

// DeniedError is ErrDenied with details.
type DeniedError struct {
	Left   time.Duration // how long it lasts; zero if the user may try again at once
	Unsure bool          // the user may not have been revoked: the decision was too old to tell
}

func (e *DeniedError) Error() string { return ErrDenied.Error() }

// Is reports whether target is ErrDenied.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }
