package recovery

import (
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// maxAttempted bounds the readers for which attempts are remembered.
const maxAttempted = 10_000

// Attempts counts for each reader of a stream how many connections in a row broke down with the
// same message unacknowledged. It is safe for concurrent use.
type Attempts struct {
	max int // zero is no limit

	mu   sync.Mutex
	seen map[readerName]attempt
}

type readerName struct{ stream, reader string }

type attempt struct {
	at   broker.Position // of the message
	n    int
	last time.Time // when the last of the connections ended
}

// NewAttempts returns an Attempts that reports the max-th attempt. Zero is no limit.
func NewAttempts(max int) *Attempts { return &Attempts{max: max} }

// Limited reports whether there is a limit.
func (a *Attempts) Limited() bool { return a.max > 0 }

// Add counts a connection that opened and broke down at these times with the message at a position,
// and reports whether the limit is reached. It ignores a connection that had opened before the last
// counted one ended: one failure of the network may have broken both. If there is no limit, see
// Limited, Add must not be called.
func (a *Attempts) Add(stream, reader string, at broker.Position, opened, ended time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = make(map[readerName]attempt)
	}
	name := readerName{stream, reader}
	one := a.seen[name]
	if one.at != at {
		one = attempt{at: at}
	} else if !opened.After(one.last) {
		return false
	}
	one.last = ended
	if one.n++; one.n >= a.max {
		delete(a.seen, name)
		return true
	}
	for other := range a.seen { // any one: its count begins anew
		if len(a.seen) < maxAttempted {
			break
		}
		delete(a.seen, other)
	}
	a.seen[name] = one
	return false
}
