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

// InboxOptions configures the inboxes of users. An inbox keeps a message to a user until the user's
// client has acknowledged it, whether or not the user has a connection. A client of realtime.v1
// acknowledges messages itself. For a plain client, a message is acknowledged when it has been
// written to the connection.
type InboxOptions struct {
	// Keep is how much is kept for one user. Zero Messages: there are no inboxes.
	//
	// The senders of an inbox share it. A message with a Sender or a Guest never displaces messages
	// of another sender. It is kept if its sender, with this message, uses no more of the inbox
	// than was free before: one sender alone gets half of Messages and Bytes, each of n senders
	// gets one of n + 1 parts, and the rest stays free for others. Beyond that, [Manager.Send]
	// returns ErrFull, or Result.Full counts the inbox. Messages that were acknowledged or have
	// expired do not count; but an expired message counts as long as one before it waits. Messages
	// of the application, with neither Sender nor Guest, have no such bound, and displace the
	// oldest messages.
	//
	// With PerDevice, a message is kept until each known device has acknowledged it, or until
	// Keep.Age has passed: a device that never connects again uses the shares of the senders until
	// then.
	Keep Retention
	// PerDevice keeps a message until each known device of the user has acknowledged it. The name
	// of a device is Identity.Device. A new device gets the messages that are kept when it first
	// connects, and is not told about earlier ones. A device is not known if it disconnected before
	// the first message to the user. If PerDevice is false, a message that one connection has
	// acknowledged need not be given to later ones.
	PerDevice bool
	// Exists reports whether there is such a user. It is called before a message is kept for a user
	// who has no connection. It runs in the goroutine that sends the message, and
	// its error makes the send fail. Nil: all users exist, so a client that may send to users can
	// fill inboxes that nobody reads.
	Exists func(ctx context.Context, user string) (bool, error)
	// OnOffline is called after a message was kept for a user who has no connection, for example to
	// send a push notification. With a broker that connects several processes, it may also be called
	// if another process, to which the user is connected, does not answer within a quarter of a
	// second. It is not called while the user has a dead
	// connection that the heartbeat has not found yet; the message stays in the inbox. A user with
	// only detached sessions, see Timeouts.Resume, has no connection. OnOffline runs in the
	// goroutine that sends the message: start another one for slow work. It may keep m, but must
	// not change it.
	OnOffline func(ctx context.Context, user string, m Message)
	// Attempts is how many connections in a row may break down with the same message
	// unacknowledged: 3. Then the message becomes a dead letter, so that the user can read the
	// messages after it. Negative: without limit.
	//
	// Only connections of realtime.v1 count. A connection breaks down if, after the message was
	// written to it, its socket breaks or ends without a close frame, the client breaks the
	// protocol, or the client closes it with a code other than 1000, 1001 and 4300; and if its
	// session is not resumed. It counts if it has received anything from its client, and if it
	// opened after the previous one had ended.
	Attempts int
	// OnDeadLetter is called with each dead letter. Nothing else keeps the message: without
	// OnDeadLetter it is lost, except for a line in the log, without its content. OnDeadLetter may
	// keep m, but must not change it. It may call Close, but not Shutdown, which waits for it.
	OnDeadLetter func(ctx context.Context, user string, m Message)
}

// inboxTime is how long the broker may take for one step with the inbox of a connection.
const inboxTime = 10 * time.Second

// inboxes keeps the messages to users.
type inboxes struct {
	m        *Manager
	options  InboxOptions
	policy   recovery.Policy
	attempts *recovery.Attempts
}

func newInboxes(m *Manager) *inboxes {
	o := m.opts.Inbox
	defaults.Set(&o.Attempts, 3)
	return &inboxes{
		m: m, options: o, policy: newPolicy(SlowCatchUp, o.Keep),
		attempts: recovery.NewAttempts(o.Attempts),
	}
}

// newUser returns a user without connections.
func (ib *inboxes) newUser(id string) *user {
	u := &user{id: id, subject: ib.m.node.EnterUser(id)}
	if ib.policy.Keeps() {
		u.topic = recovery.NewTopic(broker.InboxStream(id), "", ib.policy, &u.mu)
	}
	return u
}

// reader returns the name of the reader for which a connection acknowledges.
func (ib *inboxes) reader(c *Conn) string {
	if ib.options.PerDevice {
		return c.identity.Device
	}
	return ""
}

// open subscribes a connection to the inbox of its user, if there are inboxes, and returns the
// offset of the newest message. It waits for the broker. The user is not removed meanwhile, because
// a place is reserved for the connection.
func (ib *inboxes) open(ctx context.Context, c *Conn) (top uint64, err error) {
	if c.UserID() == "" || !ib.policy.Keeps() {
		return 0, nil
	}
	u := ib.m.users.lockNew(c.UserID())
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
		Topic: t, Subscriber: &inboxSubscriber{(*subscriber)(c), ib, t},
		Queue: c.queue, Protocol: c.proto,
		Lagging: &c.lagging, At: at, Acknowledge: c.proto == wire.ProtoPlain,
	})
	return c.inbox.Top(), nil
}

// inboxSubscriber implements recovery.Subscriber for a connection of a user with an inbox.
type inboxSubscriber struct {
	*subscriber
	inboxes *inboxes
	topic   *recovery.Topic
}

// SetNeedsCheck implements recovery.Subscriber. Each delivery to an inbox calls the methods of the
// subscription anyway.
func (s *inboxSubscriber) SetNeedsCheck(bool) {}

// Restart implements recovery.Subscriber.
func (s *inboxSubscriber) Restart(ctx context.Context) (broker.Position, error) {
	return s.inboxes.m.broker.Cursor(ctx, s.topic.Stream, s.inboxes.reader((*Conn)(s.subscriber)))
}

// Acknowledge implements recovery.Subscriber.
func (s *inboxSubscriber) Acknowledge() {
	s.inboxes.m.broker.Go(func() { s.inboxes.acknowledge((*Conn)(s.subscriber)) })
}

// exists reports whether a message may be kept for a user who has no connection.
func (ib *inboxes) exists(ctx context.Context, user string) (bool, error) {
	if ib.options.Exists == nil || len(ib.m.onlineElsewhere(ctx, []string{user})) > 0 {
		return true, nil
	}
	return ib.options.Exists(ctx, user)
}

// tellOffline tells the application that a message was kept for a user who has no connection.
func (ib *inboxes) tellOffline(ctx context.Context, user string, m *broker.Message) {
	if ib.options.OnOffline != nil {
		ib.options.OnOffline(ctx, user, Message(*m))
	}
}

// ack moves the cursor of the reader of a connection.
func (ib *inboxes) ack(ctx context.Context, c *Conn, at broker.Position) error {
	if c.inbox == nil {
		return ErrInvalidPosition
	}
	return ib.m.broker.Ack(ctx, broker.InboxStream(c.UserID()), ib.reader(c), at)
}

// acknowledge moves the cursor for a client that does not acknowledge, each time that messages have
// been written to it, until no more are waiting to be written.
func (ib *inboxes) acknowledge(c *Conn) {
	for more := true; more; {
		at, through := c.inbox.Written()
		if !c.queue.WaitWritten(through) {
			return
		}
		// Without the context of the connection: it may have ended after the messages were written.
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		err := ib.ack(ctx, c, at)
		cancel()
		if err != nil && !errors.Is(err, ErrInvalidPosition) { // which means that the epoch ended
			ib.m.fetcher.Failed(c.session.Context(), err)
		}
		more = c.inbox.Acknowledged(at)
	}
}

// connGone counts a connection that has ended, and whose session was not resumed, as an attempt if
// it broke down. A message that breaks its connections must not block the inbox for ever. connGone
// does not wait for the broker.
//
// A connection over which nothing was received does not count: the network may have cut it before
// the client read anything.
func (ib *inboxes) connGone(c *Conn) {
	if !ib.attempts.Limited() || c.proto != wire.ProtoV1 {
		return
	}
	// brokenDown comes first: another connection may end while open still writes c.inbox, and to
	// read it would be a race.
	if !brokenDown(c.session.Why()) || c.inbox == nil || c.session.ReceivedBytes() == 0 {
		return
	}
	ib.m.broker.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		defer cancel()
		if err := ib.checkAttempts(ctx, c); err != nil {
			ib.m.fetcher.Failed(c.session.Context(), err)
		}
	})
}

// brokenDown reports whether a connection may have ended because of a message that it was given. A
// connection that timed out has not: this says nothing about its client.
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

// checkAttempts counts an attempt for the first message that was written to the connection and is
// not acknowledged. If that was the last attempt, the message becomes a dead letter.
func (ib *inboxes) checkAttempts(ctx context.Context, c *Conn) error {
	stream, reader := broker.InboxStream(c.UserID()), ib.reader(c)
	last, first := c.inbox.Given()
	at, err := ib.m.broker.Cursor(ctx, stream, reader)
	if err != nil || first == 0 || at.Epoch != last.Epoch || at.Offset >= last.Offset {
		return err
	}
	// Messages before the first one were not given to the connection, for example because a newer
	// one has the same key.
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

// deadLetter moves the cursor of a connection past a message, and tells the application.
func (ib *inboxes) deadLetter(ctx context.Context, c *Conn, p *broker.Publication) error {
	if err := ib.ack(ctx, c, p.Position); err != nil {
		return err
	}
	ib.m.counters.Add(metrics.DeadLetters, 1)
	ib.m.log.Log(ctx, slog.LevelWarn, "inbox",
		"realtime: dead letter: a message with which connections broke down is skipped",
		slog.String("user", c.UserID()), slog.String("id", p.Message.ID),
		slog.Uint64("offset", p.Position.Offset))
	if ib.options.OnDeadLetter != nil {
		c.run(func() { ib.tellDeadLetter(c, p.Message) })
	}
	return nil
}

// tellDeadLetter calls OnDeadLetter.
func (ib *inboxes) tellDeadLetter(c *Conn, m broker.Message) {
	_ = c.guard(func() error {
		ib.options.OnDeadLetter(context.WithoutCancel(c.session.Context()), c.UserID(), Message(m))
		return nil
	})
}
