package bolt

import (
	"errors"
	"fmt"

	"github.com/realtime-go/realtime/broker"
)

// At Open.
var (
	// ErrLocked says that another process, or another Broker, has the file open.
	ErrLocked = errors.New("bolt: file is in use")
	// ErrFormat says that the file is no store of this package, or one of a newer format: the
	// message has both numbers then.
	ErrFormat = errors.New("bolt: not a store that can be read")
)

// Later.
var (
	// ErrDamaged says that the structure of the file is broken so that Open could not mend it, or
	// was broken since.
	ErrDamaged = errors.New("bolt: damaged file")
	// ErrChanged says that somebody else has written to the file while it was closed to recover
	// from a failure. The Broker does not work any more; open the file anew.
	ErrChanged = errors.New("bolt: file was changed by somebody else")
)

var errClosed = fmt.Errorf("bolt: %w", broker.ErrClosed)

// Damage is a piece of the file that is wrong.
type Damage struct {
	// Stream is whose it is. Empty if that is not known.
	Stream string
	// Offset is that of the publication that is lost, or the number of the page, and zero if it is
	// something else.
	Offset uint64
	// What it is. Its checksum is wrong, or it is missing: "record", "stream", "id", "cursor" or
	// "header". It does not fit to the rest of the file, which was written anew when it was opened:
	// "page" or "freelist". One of the two pages that the file begins with: "meta"; all streams
	// have new epochs then, because the last transaction may be lost.
	What string
}
