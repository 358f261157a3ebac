package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime"
)

// session is the state of a client over all of its connections. Fields without a lock of their own
// are used by one goroutine at a time: the one of run and, while a connection lasts, its reader.
type session struct {
	opts     DialOptions
	door     door
	requests *requests
	stream   *stream
	members  *members
	inbox    *inbox
	calls    *calls
	pace     pace
	nudge    nudge
	sends    chan struct{} // has an element for each send that waits for its answer

	resumes string // token of the session that the next connection may resume; may be empty
	limit   int    // the largest frame that the server accepts, in bytes
	why     error  // how the last attempt or connection ended
	lost    error  // how the last connection ended

	work       sync.WaitGroup // running code of the application
	refreshing atomic.Bool
	opened     chan struct{} // closed by the first welcome
	done       chan struct{} // closed when everything has ended
}

func newSession(url string, opts *DialOptions) *session {
	s := &session{
		opts:   opts.resolved(),
		opened: make(chan struct{}), done: make(chan struct{}),
	}
	s.requests = newRequests(&s.opts)
	s.sends = make(chan struct{}, s.opts.PendingSends)
	s.door = door{url: url, opts: &s.opts, tokens: newTokens(&s.opts)}
	s.stream = newStream(s.opts.QueueMessages)
	s.members = &members{requests: s.requests, stream: s.stream}
	s.inbox = &inbox{requests: s.requests, stream: s.stream}
	s.stream.drained = func() {
		s.members.drained()
		s.inbox.drained()
	}
	s.calls = newCalls(&s.opts, &s.work)
	s.pace.renewable = s.opts.Token != nil
	return s
}

// run is the life of a client. It ends with ctx, whose cause it uses as the error.
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
	s.door.tokens.settle()
}

// live makes one connection after another until the client must not reconnect, and returns the
// reason.
func (s *session) live(ctx context.Context) error {
	defer s.nudge.set(nil, doubts)
	for {
		err := s.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == errAnew {
			continue
		}
		s.why = err
		wait, comeBack := s.pace.after(err)
		if !comeBack {
			return err
		}
		if !s.wait(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// wait waits for the next attempt. It reports false if ctx has ended.
func (s *session) wait(ctx context.Context, wait time.Duration) bool {
	enough := make(chan struct{}, 1)
	s.nudge.set(func() {
		select {
		case enough <- struct{}{}:
		default:
		}
	}, hurries)
	s.tell(State{Phase: Waiting, Err: s.why, Retry: time.Now().Add(wait)})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-enough:
	case <-ctx.Done():
		return false
	}
	return true
}

// once makes a connection, and returns why the attempt failed or how the connection ended. It
// returns errAnew if another attempt must replace this one.
func (s *session) once(ctx context.Context) error {
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.nudge.set(func() { cancel(errAnew) }, renews)
	s.tell(State{Phase: Connecting, Err: s.why})
	l, hello, err := s.door.enter(attempt)
	if err != nil {
		if ctx.Err() == nil && context.Cause(attempt) == errAnew {
			return errAnew
		}
		return err
	}
	s.nudge.set(l.doubt, doubts)
	s.pace.known = true
	began := time.Now()
	s.begin(l, hello)
	err = l.run(ctx, s.requests, func(f frame) { s.hear(l, f) }, s.inbox.last)
	s.pace.lasted(time.Since(began))
	s.lost = err
	if !resumable(err) {
		s.resumes = ""
	}
	if ctx.Err() == nil { // otherwise run fails them with the client's error
		s.requests.cut()
	}
	s.stream.release()
	return err
}

// resumable reports whether the server keeps the session of a connection that has ended in this
// way. It does not if it closed the connection because it goes away, or if the client must not
// reconnect.
func resumable(end error) bool {
	said, ok := errors.AsType[*realtime.CloseError](end)
	return ok && said.Code != realtime.CloseAway && said.Code.ComeBack()
}

// begin resumes the session and joins the rooms again. If messages are missing that are not kept,
// received messages are held back until the rooms are joined. So a consumer that fetches the
// missing messages when it reads the GapError does not miss any others.
func (s *session) begin(l *link, hello *welcome) {
	s.limit, s.pace.spread = hello.MaxMessageBytes, hello.spread()
	first, kept := s.members.begin(s.lost)
	if s.lost != nil && (!kept || hello.Inbox == nil) {
		s.stream.gap(s.lost)
	}
	if len(first) == 0 {
		s.stream.release()
	}
	if s.resumes != "" { // the joins follow even if the server refuses
		resume, err := s.requests.prepare(outgoing{Type: "resume", Session: s.resumes}, false, nil)
		if err == nil {
			first = append([]*request{resume}, first...)
		}
	}
	s.resumes = hello.Session
	s.requests.begin(s.limit, first)
	s.inbox.begin(hello.Inbox, s.lost, func() { l.end(errBehind) })
	s.tell(State{Phase: Open})
	if s.lost == nil {
		close(s.opened)
	}
}

// errBehind ends a connection in order to receive messages of the inbox again.
var errBehind error = &realtime.CloseError{
	Cause: realtime.CauseClient, Code: realtime.CloseLost, Reason: "the consumer was too slow",
}

// removed is called by the reader when the server has removed the client from a room.
func (s *session) removed(room string) {
	if !s.members.left(room) {
		return
	}
	s.stream.fail(&RoomError{Room: room, Err: &realtime.Error{
		Code: "removed", Message: "the server has removed the client from the room",
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
		s.tellRecoveries()
	case in.Type == "joined":
		s.members.put(in.Room, in.Content)
		s.tellRecoveries()
	case in.Type == "left":
		s.removed(in.Room)
	case in.Type == "position", in.Type == "skipped":
		s.move(&in)
	case in.isMessage():
		s.take(&in)
	}
}

func (s *session) move(in *incoming) {
	if in.Room == "" {
		s.inbox.move(in.move())
	} else {
		s.members.move(in.Room, in.move())
		s.tellRecoveries()
	}
}

func (s *session) take(in *incoming) {
	m := in.message()
	switch {
	case m.Epoch == "":
		s.stream.give(m, false, false)
	case m.inInbox():
		s.inbox.take(m, in.Prev)
	default:
		s.members.take(m, in.Prev)
		s.tellRecoveries()
	}
}

func (s *session) tellRecoveries() {
	for _, r := range s.members.news() {
		if s.opts.OnRecover != nil {
			s.opts.OnRecover(r)
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

// refresh sends a new token. If there is none, the server closes the connection, and the next
// attempt asks for a token again.
func (s *session) refresh(l *link) {
	if s.opts.Token == nil || !s.refreshing.CompareAndSwap(false, true) {
		return
	}
	limit := s.limit
	s.work.Go(func() {
		defer s.refreshing.Store(false)
		ctx, cancel := context.WithTimeout(l.ctx, attemptTime)
		defer cancel()
		token, err := s.door.tokens.next(ctx)
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
