package admission

import (
	"errors"
	"fmt"
)

var (
	ErrTooManyConns = errors.New("realtime: too many connections")
	ErrOverloaded   = errors.New("realtime: short of memory")
	ErrDenied       = errors.New("realtime: denied")
	ErrPlaceFull    = fmt.Errorf("%w from one address", ErrTooManyConns)
)
