package bolt

import (
	"errors"
	"fmt"

	"github.com/realtime-go/realtime"
)

// At Open.
var (
	// ErrLocked says that another process, or another Broker, has the file open.
	ErrLocked = errors.New("bolt: file is in use")
	// ErrFormat says that the file is no store of this package, or one of a newer format: the message
	// has both numbers then.
	ErrFormat = errors.New("bolt: not a store that can be read")
)

// Later.
var (
	// ErrDamaged says that the structure of the file is broken: more than a record, which would
	// not be an error but a gap.
	ErrDamaged = errors.New("bolt: damaged file")
	// ErrChanged says that somebody else has written to the file while it was closed to recover
	// from a failure. The Broker does not work any more; open the file anew.
	ErrChanged = errors.New("bolt: file was changed by somebody else")
)

var errClosed = fmt.Errorf("bolt: %w", realtime.ErrClosed)

// Damage is a piece of the file whose checksum is wrong.
type Damage struct {
	// Stream is whose it is. Empty if that is not known.
	Stream string
	// Offset is of the publication that is lost, and zero if it is something else.
	Offset uint64
	// What it is: "record", "stream", "id", "cursor" or "header".
	What string
}
