package realtime

import (
	"context"
	"sync"

	"github.com/realtime-go/realtime/broker"
)

// source is a stream that this process is subscribed to: of a room that has members here, or of
// a user who has connections. Their lock guards it.
type source struct {
	stream string
	room   string // that it is of; empty for an inbox
	traits traits
	last   broker.Position // of the newest that was delivered here

	losses uint64 // how often more may have come behind that
	reread uint64 // of these, how many somebody has looked into

	opening *subscription // nil before the first one
}

// subscription is one that is made, or being made.
type subscription struct {
	done chan struct{} // closed when it is made
	err  error         // why it is not, once done
}

// open subscribes, unless somebody has. It may take until ctx ends. The caller sees to it that the
// source is not closed meanwhile.
func (s *source) open(ctx context.Context, mu *sync.Mutex, k *carrier) error {
	for {
		mu.Lock()
		mine := s.opening == nil
		if mine {
			s.opening = &subscription{done: make(chan struct{})}
		}
		opening := s.opening
		mu.Unlock()
		if mine {
			return s.subscribe(ctx, mu, k, opening)
		}
		select {
		case <-opening.done:
			if opening.err == nil {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *source) subscribe(ctx context.Context, mu *sync.Mutex, k *carrier, opening *subscription) error {
	defer close(opening.done)
	at, err := k.subscribe(ctx, s.stream)
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		opening.err, s.opening = err, nil // the next one tries again
		return err
	}
	// What has come meanwhile may be from an older subscription, and that may have ended before at.
	if s.last.Epoch != at.Epoch || s.last.Offset < at.Offset {
		s.last = at
	}
	return nil
}

// lost reports whether more may have come behind last.
func (s *source) lost() bool { return s.reread != s.losses }

// found notes where the stream was for a read that began after so many losses. What was delivered
// since then is further on, and a loss since then has to be looked into by another read.
func (s *source) found(top broker.Position, losses uint64) {
	if !s.lost() || losses != s.losses {
		return
	}
	s.reread = losses
	if top.Epoch != "" && (top.Epoch != s.last.Epoch || top.Offset > s.last.Offset) {
		s.last = top
	}
}

// has reports whether what is delivered is not behind last: it was read after a loss, or comes from
// an older subscription, and who is to get it has it or reads it.
func (s *source) has(at broker.Position) bool {
	return at.Epoch == s.last.Epoch && at.Offset <= s.last.Offset
}

// close ends the subscription, if there is one. It does not wait for the broker.
func (s *source) close(k *carrier) {
	if s.opening != nil {
		k.unsubscribe(s.stream)
		s.opening = nil
	}
}
