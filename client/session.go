package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime"
)

// session is what a client has over all of its connections. What has no lock of its own is used
// by one goroutine at a time: that of run and, while a connection lasts, its reader.
type session struct {
	opts     DialOptions
	door     door
	requests *requests
	stream   *stream
	calls    *calls
	pace     pace
	seen     seen

	rooms     []string // that are joined, in this order
	rejoining int      // how many of them the server has not answered yet
	limit     int      // the size of a frame that the server takes, in bytes
	why       error    // how the last attempt or connection ended
	lost      error    // how the last connection ended

	work       sync.WaitGroup // code of the application that runs
	refreshing atomic.Bool
	opened     chan struct{} // closed by the first welcome
	done       chan struct{} // closed when nothing runs any more
}

func newSession(url string, opts *DialOptions) *session {
	s := &session{
		opts: opts.resolved(), requests: newRequests(),
		opened: make(chan struct{}), done: make(chan struct{}),
	}
	s.door = door{url: url, opts: &s.opts}
	s.stream = newStream(s.opts.QueueMessages)
	s.calls = newCalls(&s.opts, &s.work)
	s.pace.renewable = s.opts.Token != nil
	return s
}

// run is the life of a client. ctx ends it, with its cause.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	err := s.live(ctx)
	if !errors.Is(err, realtime.ErrClosed) { // a *DialError
		err = fmt.Errorf("%w: %w", realtime.ErrClosed, err)
	}
	s.requests.end(err)
	s.stream.end(err)
	s.tell(State{Phase: Closed, Err: err})
	s.work.Wait()
}

// live makes one connection after another, until it is to stay away, and returns why.
func (s *session) live(ctx context.Context) error {
	for {
		s.tell(State{Phase: Connecting, Err: s.why})
		err := s.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.why = err
		wait, comeBack := s.pace.after(err)
		if !comeBack {
			return err
		}
		s.tell(State{Phase: Waiting, Err: err, Retry: time.Now().Add(wait)})
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// once makes a connection and returns how that failed, or how it ended.
func (s *session) once(ctx context.Context) error {
	l, hello, err := s.door.enter(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	s.begin(hello)
	err = l.run(ctx, s.requests, func(f frame) { s.hear(l, f) })
	s.pace.lasted(time.Since(began))
	s.lost = err
	if ctx.Err() == nil { // else they get the client's end
		s.requests.cut()
	}
	s.stream.release()
	return err
}

// begin has the rooms joined again. What comes meanwhile is held back, so that a consumer that
// is told of the gap and fetches what it missed, misses nothing more.
func (s *session) begin(hello *welcome) {
	s.limit, s.pace.spread = hello.MaxMessageBytes, hello.spread()
	s.rejoining = len(s.rooms)
	first := make([]*request, len(s.rooms))
	for i, room := range s.rooms {
		// A name that was joined can be encoded.
		first[i], _ = s.requests.prepare(outgoing{Type: "join", Room: room}, false, s.rejoined(room))
	}
	if s.lost != nil {
		s.stream.gap(s.lost)
	}
	if len(first) == 0 {
		s.stream.release()
	}
	s.requests.begin(s.limit, first)
	s.tell(State{Phase: Open})
	if s.lost == nil {
		close(s.opened)
	}
}

// rejoined is told how the server answers.
func (s *session) rejoined(room string) func(error) {
	return func(err error) {
		if err != nil {
			s.setRoom(room, false)
			s.stream.fail(&RoomError{Room: room, Err: err})
		}
		if s.rejoining--; s.rejoining == 0 {
			s.stream.release()
		}
	}
}

// setRoom is called by the reader, when the server has answered.
func (s *session) setRoom(room string, joined bool) {
	i := slices.Index(s.rooms, room)
	switch {
	case joined && i < 0:
		s.rooms = append(s.rooms, room)
	case !joined && i >= 0:
		s.rooms = slices.Delete(s.rooms, i, i+1)
	}
}

// removed is called by the reader, when the server has taken the client out of a room.
func (s *session) removed(room string) {
	if !slices.Contains(s.rooms, room) {
		return
	}
	s.setRoom(room, false)
	s.stream.fail(&RoomError{Room: room, Err: &realtime.Error{
		Code: "removed", Message: "the server has taken the client out of the room",
	}})
}

// hear is called by the reader. It does not block.
func (s *session) hear(l *link, f frame) {
	in, ok := decode(f)
	switch {
	case !ok:
	case in.Type == "call":
		s.calls.serve(l, in, s.limit)
	case in.Type == "reply", in.Type == "error":
		s.answered(l, in)
	case in.Type == "left":
		s.removed(in.Room)
	case in.isMessage():
		m := in.message()
		if !s.seen.has(&m) && s.stream.push(m) {
			s.seen.add(&m)
		}
	}
}

func (s *session) answered(l *link, in incoming) {
	id, fault := in.number(), in.fault()
	switch {
	case fault == nil:
		s.requests.answer(id, result{content: in.Content})
	case id == 0 && fault.Code == "expired":
		s.refresh(l)
	default:
		s.requests.answer(id, result{err: fault})
	}
}

// refresh sends a new token. If there is none, the server will close the connection, and the
// next attempt asks for one again.
func (s *session) refresh(l *link) {
	if s.opts.Token == nil || !s.refreshing.CompareAndSwap(false, true) {
		return
	}
	limit := s.limit
	s.work.Go(func() {
		defer s.refreshing.Store(false)
		token, err := s.opts.Token(l.ctx)
		if err != nil || token == "" {
			return
		}
		o := outgoing{Type: "refresh", Token: token}
		if f, err := o.encode(); err == nil && len(f.data) <= limit {
			l.answer(f)
		}
	})
}

func (s *session) tell(state State) {
	if s.opts.OnState != nil {
		s.opts.OnState(state)
	}
}
