package bolt

import (
	"errors"
	"fmt"

	"github.com/realtime-go/realtime/broker"
)

// Errors of Open.
var (
	// ErrLocked means that another process, or another Broker, has the file open.
	ErrLocked = errors.New("bolt: file is in use")
	// ErrFormat means that the file is not a store of this package, or has a newer format: then the
	// error text has both format numbers.
	ErrFormat = errors.New("bolt: not a store that can be read")
)

// Errors of Open and of a Broker that is open.
var (
	// ErrDamaged means that the structure of the file is broken: Open could not repair it, or it
	// was broken after Open.
	ErrDamaged = errors.New("bolt: damaged file")
	// ErrChanged means that another program has written to the file while it was closed to recover
	// from a failure. The Broker no longer works; open the file again.
	ErrChanged = errors.New("bolt: file was changed by another program")
)

var errClosed = fmt.Errorf("bolt: %w", broker.ErrClosed)

// Damage describes a damaged piece of the file.
type Damage struct {
	// Stream is the stream to which the piece belongs, empty if unknown.
	Stream string
	// Offset is the offset of the lost publication, or the number of the page, or zero for other
	// pieces.
	Offset uint64
	// What is the kind of the piece.
	//
	// A "record", "stream", "id", "cursor" or "header" is missing or has a wrong checksum.
	//
	// A "page" or the "freelist" contradicts the rest of the file; Open has then written the file
	// anew.
	//
	// A "meta" is one of the first two pages of the file. All streams have new epochs then, because
	// the last transaction may be lost.
	What string
}
