package realtime

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/wire"
)

// InboxOptions says what is kept for users: with it a message to a user waits for him if he has no
// connection, and until he has taken it if he has one. A client of realtime.v1 acknowledges what
// it has taken; for another one it counts as taken once it is written.
type InboxOptions struct {
	// Keep is how much is kept for one user. Zero Messages: nothing, there are no inboxes.
	//
	// Senders share it. A message with a Sender or a Guest never pushes out what another one has
	// sent: it is kept if its sender has no more in the inbox then than was free before. So one
	// sender alone gets half of Messages and Bytes, each of n gets one of n + 1 parts, and the rest
	// waits for others. Beyond it [Manager.Send] returns ErrFull, or Result.Full counts the inbox.
	// What was acknowledged and what has expired does not count, but for what has expired behind
	// a message that waits. Messages of the application, with neither Sender nor Guest, have no
	// such bound, and push out the oldest. With PerDevice a message waits for each known device, or
	// until Keep.Age: a device that does not come any more takes up its senders' shares until then.
	Keep Retention
	// PerDevice keeps a message until each device of the user has taken it, as Identity.Device
	// names them. A device that is not known yet gets what is kept then, and does not hear of what
	// was kept before. A device that left before the first message to its user is not known.
	// Without it, what one connection has taken need not be given to the next.
	PerDevice bool
	// Exists decides whether there is such a user, before something is kept for one who has no
	// connection in this process. It is called by the goroutine that sends, which gets its error.
	// Nil: everybody exists, and whoever may send to users can fill inboxes of nobody.
	Exists func(ctx context.Context, user string) (bool, error)
	// OnOffline hears of a message that was kept for a user who has no connection in this process:
	// to send a push notification, for example. It does not hear of one that came while a
	// connection was dead and the heartbeat had not found out: that waits in the inbox. While
	// Timeouts.Resume lasts, the user has no connection. It is called by the goroutine that
	// sends: what takes long is for another one. It may keep m, but not change it.
	OnOffline func(ctx context.Context, user string, m Message)
	// Attempts is how many connections of a client of realtime.v1 may break down, one after
	// another, with the same message unacknowledged, before that is set aside, so that what is
	// after it can be read: 3. A connection breaks down if it ends without a goodbye after the
	// message was written to it, and is not resumed. It counts if its client has ever been heard
	// over it, and if it opened after the one before had broken down. Negative: any number.
	Attempts int
	// OnDeadLetter is given what was set aside: nobody else is, and without it that is lost but for
	// a line in the log. It may keep m, but not change it. It may call Close, and not Shutdown,
	// which waits for it.
	OnDeadLetter func(ctx context.Context, user string, m Message)
}

// inboxTime is how long a broker may take to open the inbox of a connection.
const inboxTime = 10 * time.Second

// inboxes are what is kept for users.
type inboxes struct {
	m *Manager
	InboxOptions
	policy   recovery.Policy
	attempts *recovery.Attempts
}

func newInboxes(m *Manager) *inboxes {
	o := m.opts.Inbox
	defaults.Set(&o.Attempts, 3)
	return &inboxes{
		m: m, InboxOptions: o, policy: newPolicy(SlowCatchUp, o.Keep),
		attempts: recovery.NewAttempts(o.Attempts),
	}
}

// newUser returns a user, with the topic of the inbox if there are inboxes.
func (ib *inboxes) newUser(id string) *user {
	u := &user{id: id}
	if ib.policy.Keeps() {
		u.topic = recovery.NewTopic(broker.InboxStream(id), "", ib.policy, &u.mu)
	}
	return u
}

// reader is the name under which a connection acknowledges.
func (ib *inboxes) reader(c *Conn) string {
	if ib.PerDevice {
		return c.identity.Device
	}
	return ""
}

// open finds out where a connection begins in the inbox of its user, if there are inboxes, and
// returns the offset of the newest message. It waits for the broker. The user stays meanwhile: a
// place is reserved for the connection.
func (ib *inboxes) open(ctx context.Context, c *Conn) (top uint64, err error) {
	if c.UserID() == "" || !ib.policy.Keeps() {
		return 0, nil
	}
	u := ib.m.users.enter(c.UserID())
	t := u.topic
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, inboxTime)
	defer cancel()
	if err := t.Open(ctx, ib.m.broker); err != nil {
		return 0, err
	}
	at, err := ib.m.broker.Cursor(ctx, t.Stream, ib.reader(c))
	if err != nil {
		return 0, err
	}
	c.inbox = ib.m.fetcher.Subscribe(recovery.Config{
		Topic: t, Subscriber: &inboxSubscriber{(*subscriber)(c), ib, t}, Queue: c.queue, Protocol: c.proto,
		Lagging: &c.lagging, At: at, Acknowledge: c.proto == wire.ProtoPlain,
	})
	return c.inbox.Top(), nil
}

// inboxSubscriber is a connection with an inbox.
type inboxSubscriber struct {
	*subscriber
	inboxes *inboxes
	topic   *recovery.Topic
}

// SetNeedsCheck implements recovery.Subscriber. A delivery to an inbox always asks.
func (s *inboxSubscriber) SetNeedsCheck(bool) {}

// Restart implements recovery.Subscriber.
func (s *inboxSubscriber) Restart(ctx context.Context) (broker.Position, error) {
	return s.inboxes.m.broker.Cursor(ctx, s.topic.Stream, s.inboxes.reader((*Conn)(s.subscriber)))
}

// Acknowledge implements recovery.Subscriber.
func (s *inboxSubscriber) Acknowledge() {
	s.inboxes.m.broker.Go(func() { s.inboxes.acknowledge((*Conn)(s.subscriber)) })
}

// exists reports whether something may be kept for a user who has no connection.
func (ib *inboxes) exists(ctx context.Context, user string) (bool, error) {
	if ib.Exists == nil {
		return true, nil
	}
	return ib.Exists(ctx, user)
}

// kept tells the application what was kept for a user who has no connection.
func (ib *inboxes) kept(ctx context.Context, user string, m *broker.Message) {
	if ib.OnOffline != nil {
		ib.OnOffline(ctx, user, Message(*m))
	}
}

// ack moves the cursor of a connection's inbox.
func (ib *inboxes) ack(ctx context.Context, c *Conn, at broker.Position) error {
	if c.inbox == nil {
		return ErrInvalidPosition
	}
	return ib.m.broker.Ack(ctx, broker.InboxStream(c.UserID()), ib.reader(c), at)
}

// acknowledge moves the cursor of a client that does not do it itself, as often as something has
// been written to it.
func (ib *inboxes) acknowledge(c *Conn) {
	for more := true; more; {
		at, through := c.inbox.Written()
		if !c.queue.WaitWritten(through) {
			return
		}
		// The connection may have ended by now, and this is what it had.
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		err := ib.ack(ctx, c, at)
		cancel()
		if err != nil && !errors.Is(err, ErrInvalidPosition) { // else its epoch has ended meanwhile
			ib.m.fetcher.Failed(c.session.Context(), err)
		}
		more = c.inbox.Acknowledged(at)
	}
}

// connGone looks at a connection that has ended and that no other one takes the place of: a message
// that it could not cope with must not be what the next one begins with for ever. It does not wait
// for the broker.
//
// A connection whose peer has never been heard says nothing about its peer: it may have been cut
// before anything was read.
func (ib *inboxes) connGone(c *Conn) {
	if !ib.attempts.Limited() || c.proto != wire.ProtoV1 || !brokenDown(c.session.Why()) || c.inbox == nil ||
		c.session.Sent() == 0 {
		return // the inbox of one that did not break down may be about to be opened
	}
	ib.m.broker.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		defer cancel()
		if err := ib.checkAttempts(ctx, c); err != nil {
			ib.m.fetcher.Failed(c.session.Context(), err)
		}
	})
}

// brokenDown reports whether a connection may have ended because of what it was given. One that
// was not heard of any more has not: it says nothing about its peer.
func brokenDown(why *CloseError) bool {
	switch why.Cause {
	case CauseLost, CauseProtocol:
		return true
	case CauseClient:
		return why.Code != CloseNormal && why.Code != CloseAway && why.Code != CloseNone &&
			why.Code != CloseSlow
	}
	return false
}

// checkAttempts sets the first message aside that was written to the connection and that is not
// acknowledged, if there have been enough before it.
func (ib *inboxes) checkAttempts(ctx context.Context, c *Conn) error {
	stream, reader := broker.InboxStream(c.UserID()), ib.reader(c)
	last, first := c.inbox.Given()
	at, err := ib.m.broker.Cursor(ctx, stream, reader)
	if err != nil || first == 0 || at.Epoch != last.Epoch || at.Offset >= last.Offset {
		return err
	}
	// What is in front of the first was not given: there is a newer message of its key, for example.
	after := max(at.Offset, first-1)
	page, err := ib.m.broker.Read(ctx, stream, broker.Query{After: after, Before: last.Offset + 1})
	if err != nil {
		return err
	}
	for i := range page.Publications {
		p := &page.Publications[i]
		if c.excluded(&p.Target) {
			continue
		}
		if !c.inbox.Wrote(p.Position.Offset) ||
			!ib.attempts.Add(stream, reader, p.Position, c.session.Opened(), c.session.Over()) {
			return nil
		}
		return ib.deadLetter(ctx, c, p)
	}
	return nil
}

// deadLetter goes on behind a message.
func (ib *inboxes) deadLetter(ctx context.Context, c *Conn, p *broker.Publication) error {
	if err := ib.ack(ctx, c, p.Position); err != nil {
		return err
	}
	ib.m.counters.Add(metrics.DeadLetters, 1)
	ib.m.log.Log(ctx, slog.LevelWarn, "inbox",
		"realtime: a message was set aside: connections broke down with it",
		slog.String("user", c.UserID()), slog.String("id", p.Message.ID),
		slog.Uint64("offset", p.Position.Offset))
	if ib.OnDeadLetter != nil {
		c.run(func() { ib.tellDeadLetter(c, p.Message) })
	}
	return nil
}

// tellDeadLetter tells the application.
func (ib *inboxes) tellDeadLetter(c *Conn, m broker.Message) {
	_ = c.guard(func() error {
		ib.OnDeadLetter(context.WithoutCancel(c.session.Context()), c.UserID(), Message(m))
		return nil
	})
}
