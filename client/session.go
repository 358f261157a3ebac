package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// session is the state of a client over all of its connections. Fields without a lock of their own
// are used by one goroutine at a time: the one of run and, while a connection lasts, its reader.
type session struct {
	opts      DialOptions
	dialer    dialer
	requests  *requests
	stream    *stream
	members   *members
	inbox     *inbox
	calls     *calls
	backoff   backoff
	reconnect reconnectAction
	sends     chan struct{} // has an element for each send that waits for its answer

	resumeToken string // token of the session that the next connection may resume; may be empty
	resuming    bool   // the last connection has resumed a session, and there is no answer
	limit       int    // the largest frame that the server accepts, in bytes
	lastErr     error  // how the last attempt or connection ended
	lastLoss    error  // how the last connection ended

	work   sync.WaitGroup // running code of the application
	opened chan struct{}  // closed by the first welcome
	done   chan struct{}  // closed when everything has ended
}

func newSession(url string, opts *DialOptions) *session {
	s := &session{
		opts:   opts.resolved(),
		opened: make(chan struct{}), done: make(chan struct{}),
	}
	s.requests = newRequests(&s.opts)
	s.sends = make(chan struct{}, s.opts.PendingSends)
	s.dialer = newDialer(url, &s.opts)
	s.stream = newStream(s.opts.QueueMessages)
	s.members = &members{requests: s.requests, stream: s.stream}
	s.inbox = &inbox{requests: s.requests, stream: s.stream}
	s.stream.drained = func() {
		s.members.drained()
		s.inbox.drained()
	}
	s.calls = newCalls(&s.opts, &s.work)
	s.backoff.renewable = s.opts.Token != nil
	return s
}

// run is the life of a client. It ends with ctx, whose cause it uses as the error.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	err := s.runConnections(ctx)
	if !errors.Is(err, realtime.ErrClosed) { // a *DialError
		err = fmt.Errorf("%w: %w", realtime.ErrClosed, err)
	}
	s.requests.end(err)
	s.stream.end(err)
	s.reportState(State{Phase: Closed, Err: err})
	s.work.Wait()
	s.dialer.tokens.wait()
	s.dialer.tickets.wait()
}

// runConnections makes one connection after another until the client must not reconnect, and
// returns the reason.
func (s *session) runConnections(ctx context.Context) error {
	defer s.reconnect.set(nil, actionProbe)
	for {
		err := s.connectOnce(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == errRestart {
			continue
		}
		s.lastErr = err
		wait, retry := s.backoff.next(err)
		if !retry {
			return err
		}
		if !s.wait(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// wait waits for the next attempt. It reports false if ctx has ended.
func (s *session) wait(ctx context.Context, wait time.Duration) bool {
	endWait := make(chan struct{}, 1)
	s.reconnect.set(func() {
		select {
		case endWait <- struct{}{}:
		default:
		}
	}, actionEndWait)
	s.reportState(State{Phase: Waiting, Err: s.lastErr, Retry: time.Now().Add(wait)})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-endWait:
	case <-ctx.Done():
		return false
	}
	return true
}

// connectOnce makes a connection, and returns why the attempt failed or how the connection ended.
// It returns errAnew if another attempt must replace this one.
func (s *session) connectOnce(ctx context.Context) error {
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.reconnect.set(func() { cancel(errRestart) }, actionRestart)
	s.reportState(State{Phase: Connecting, Err: s.lastErr})
	l, welcome, err := s.dialer.connect(attempt)
	if err != nil {
		if ctx.Err() == nil && context.Cause(attempt) == errRestart {
			return errRestart
		}
		return err
	}
	s.reconnect.set(l.probe, actionProbe)
	s.backoff.connectedBefore = true
	began := time.Now()
	s.begin(l, welcome)
	err = l.run(ctx, s.requests, func(f frame) { s.receive(l, f) }, s.inbox.finalAck)
	s.backoff.noteDuration(time.Since(began))
	s.lastLoss = err
	if !resumable(err) {
		s.resumeToken = ""
	}
	if ctx.Err() == nil { // otherwise run fails them with the client's error
		s.requests.disconnected()
	}
	s.stream.release()
	return err
}

// resumable reports whether the server keeps the session of a connection that has ended in this
// way. It does not if it closed the connection because it goes away, or if the client must not
// reconnect.
func resumable(end error) bool {
	e, ok := errors.AsType[*realtime.CloseError](end)
	return ok && e.Code != realtime.CloseAway && e.Code.ComeBack()
}

// begin resumes the session and joins the rooms again. If messages are missing that are not kept,
// received messages are held back until the rooms are joined. So a consumer that fetches the
// missing messages when it reads the GapError does not miss any others.
func (s *session) begin(l *link, w *welcome) {
	s.limit, s.backoff.spread = w.MaxMessageBytes, w.spread()
	first, kept := s.members.begin(s.lastLoss)
	if s.lastLoss != nil && (!kept || w.Inbox == nil) {
		s.stream.holdGap(s.lastLoss)
	}
	if len(first) == 0 {
		s.stream.release()
	}
	// Without an answer to the last request, nobody knows which session the token is for. The values
	// follow if it is the one that has them.
	s.members.beginSession(s.resumeToken != "" && !s.resuming)
	if s.resuming = s.resumeToken != ""; s.resuming { // the joins follow even if the server refuses
		o := outgoing{Type: wire.RequestResume, Session: s.resumeToken}

		// The error is ignored because a token was decoded from JSON.
		resume, _ := s.requests.prepare(o, false, s.resumeAnswered)
		first = append([]*request{resume}, first...)
	}
	s.resumeToken = w.Session
	s.requests.begin(s.limit, first)
	s.inbox.begin(w.Inbox, s.lastLoss, func() { l.end(errSlowConsumer) })
	s.reportState(State{Phase: Open})
	if s.lastLoss == nil {
		close(s.opened)
	}
}

// resumeAnswered is called by the reader.
func (s *session) resumeAnswered(res result) {
	s.resuming = false
	if res.err != nil {
		s.members.notResumed()
	}
}

// errSlowConsumer ends a connection in order to receive messages of the inbox again.
var errSlowConsumer error = &realtime.CloseError{
	Cause: realtime.CauseClient, Code: realtime.CloseLost, Reason: "the consumer was too slow",
}

// removed is called by the reader when the server has removed the client from a room.
func (s *session) removed(room string) {
	if !s.members.left(room) {
		return
	}
	s.stream.addError(&RoomError{Room: room, Err: &realtime.Error{
		Code: "removed", Message: "the server has removed the client from the room",
	}})
}

// receive is called by the reader. It does not block.
func (s *session) receive(l *link, f frame) {
	in, ok := decode(f)
	if in.isStateFrame() { // also if it cannot be used
		l.states.note(len(f.data))
	}
	switch {
	case !ok:
	case in.Type == wire.FrameCall:
		s.calls.serve(l, in, s.limit)
	case in.Type == wire.FrameReply, in.Type == wire.FrameError:
		s.handleAnswer(l, in)
		s.reportRecoveries()
		s.reportPresence()
	case in.Type == wire.FrameJoined:
		s.members.addedByServer(in.Room, in.Content)
		s.reportRecoveries()
		s.reportPresence()
	case in.Type == wire.FrameLeft:
		s.removed(in.Room)
	case in.Type == wire.FramePosition, in.Type == wire.FrameSkipped:
		s.updatePosition(&in)
	case in.Type == wire.FramePresence:
		s.members.receivePresence(f.data)
		s.reportPresence()
	case in.Type == wire.FrameLatest:
		s.members.receiveLatest(f.data)
	case in.isMessage():
		s.deliver(&in)
	}
}

func (s *session) updatePosition(in *incoming) {
	if in.Room == "" {
		s.inbox.updatePosition(in.positionUpdate())
	} else {
		s.members.updatePosition(in.Room, in.positionUpdate())
		s.reportRecoveries()
	}
}

func (s *session) deliver(in *incoming) {
	m := in.message()
	switch {
	case m.Latest != "":
		s.members.receiveValue(m)
	case m.Epoch == "":
		s.stream.push(m, false, false)
	case m.inInbox():
		s.inbox.receive(m, in.Prev)
	default:
		s.members.receive(m, in.Prev)
		s.reportRecoveries()
	}
}

func (s *session) reportRecoveries() {
	for _, r := range s.members.takeRecoveries() {
		if s.opts.OnRecover != nil {
			s.opts.OnRecover(r)
		}
	}
}

func (s *session) reportPresence() {
	for _, e := range s.members.takePresence() {
		if s.opts.OnPresence != nil {
			s.opts.OnPresence(e.room, e.now, e.change)
		}
	}
}

func (s *session) handleAnswer(l *link, in incoming) {
	id, failure := in.requestID(), in.failure()
	switch {
	case failure == nil:
		s.requests.answer(id, result{content: in.Content, binary: in.binary})
	case id == 0 && failure.Code == wire.CodeExpired:
		s.refresh(l)
	case id == 0:
		if room := in.refusedIn(); room != "" {
			s.stream.addRefusal(room, failure)
		}
	default:
		s.requests.answer(id, result{err: failure})
	}
}

// refresh sends a new token. If there is none, the server closes the connection, and the next
// attempt asks for a token again.
func (s *session) refresh(l *link) {
	if s.opts.Token == nil || !l.refreshing.CompareAndSwap(false, true) {
		return
	}
	limit := s.limit
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, attemptTimeout)
		defer cancel()
		token, err := s.dialer.tokens.next(ctx)
		l.refreshing.Store(false) // before the server can ask for the next one
		if err != nil || token == "" {
			return
		}
		o := outgoing{Type: wire.RequestRefresh, Token: token}
		if f, err := o.encode(); err == nil && len(f.data) <= limit {
			l.sendAnswer(f)
		}
	})
}

func (s *session) reportState(state State) {
	if s.opts.OnState != nil {
		s.opts.OnState(state)
	}
}
