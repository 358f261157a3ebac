package realtime

import (
	"errors"
	"fmt"
)

var (
	errTooManyConns = errors.New("realtime: too many connections")
	errOverloaded   = errors.New("realtime: short of memory")
	errDenied       = errors.New("realtime: denied")
	errPlaceFull    = fmt.Errorf("%w from one address", errTooManyConns)
)
