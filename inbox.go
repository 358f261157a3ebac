package realtime

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
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
	// Options.ResumeGrace lasts, the user has no connection. It is called by the goroutine that
	// sends: what takes long is for another one. It may keep m, but not change it.
	OnOffline func(ctx context.Context, user string, m Message)
	// Attempts is how many connections of a client of realtime.v1 may break down, one after
	// another, with the same message unacknowledged, before that is set aside, so that what is
	// after it can be read: 3. A connection breaks down if it ends without a goodbye after the
	// message was written to it, and is not resumed. It counts if its client has ever been heard
	// over it, and if it opened after the one before had broken down. Negative: any number.
	Attempts int
	// OnSetAside is given what was set aside: nobody else is, and without it that is lost but for
	// a line in the log. It may keep m, but not change it. It may call Close, and not Shutdown,
	// which waits for it.
	OnSetAside func(ctx context.Context, user string, m Message)
}

// inboxTime is how long a broker may take to open the inbox of a connection.
const inboxTime = 10 * time.Second

// inboxes are what is kept for users.
type inboxes struct {
	InboxOptions
	traits  traits
	catcher *catcher
	strikes strikes
}

func newInboxes(o InboxOptions, k *catcher) *inboxes {
	defaults.Set(&o.Attempts, 3)
	ib := &inboxes{InboxOptions: o, catcher: k, traits: newTraits(SlowCatchUp, broker.Retention(o.Keep))}
	ib.strikes.max = o.Attempts
	return ib
}

func (ib *inboxes) carrier() *carrier { return ib.catcher.carrier }

// source returns a new source of a user's inbox, nil if there are none.
func (ib *inboxes) source(user string) *source {
	if !ib.traits.keeps() {
		return nil
	}
	return &source{stream: broker.InboxStream(user), traits: ib.traits}
}

// reader is the name under which a connection acknowledges.
func (ib *inboxes) reader(c *Conn) string {
	if ib.PerDevice {
		return c.identity.Device
	}
	return ""
}

// open finds out where a connection begins, and returns the offset of the newest message. It waits
// for the broker. s is of the connection's user, and not closed meanwhile; mu guards it.
func (ib *inboxes) open(ctx context.Context, c *Conn, s *source, mu *sync.Mutex) (top uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTime)
	defer cancel()
	if err := s.open(ctx, mu, ib.carrier()); err != nil {
		return 0, err
	}
	begin := func(ctx context.Context) (broker.Position, error) {
		return ib.carrier().cursor(ctx, s.stream, ib.reader(c))
	}
	at, err := begin(ctx)
	if err != nil {
		return 0, err
	}
	f := &feed{
		source: s, receiver: c.plain(), conn: c, mu: mu, set: func(bool) {}, begin: begin,
		done: at, told: at.Offset,
	}
	if c.proto == wire.ProtoPlain {
		f.acks = func() { ib.carrier().spawn(func() { ib.acknowledge(c) }) }
	}
	c.inbox = f
	mu.Lock()
	defer mu.Unlock()
	return max(at.Offset, s.last.Offset), nil
}

// begin lets a connection get what is in its inbox. Its user is locked.
func (ib *inboxes) begin(f *feed) {
	if f.done != f.last || f.lost() {
		f.fallBehind(f.done)
		ib.catcher.pull(f)
	}
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
		return ErrPosition
	}
	return ib.carrier().ack(ctx, c.inbox.stream, ib.reader(c), at)
}

// acknowledge moves the cursor of a client that does not do it itself, as often as something has
// been written to it.
func (ib *inboxes) acknowledge(c *Conn) {
	f := c.inbox
	for more := true; more; {
		f.mu.Lock()
		at, through := f.given, f.givenAt
		f.mu.Unlock()
		if !c.link.WaitWritten(through) {
			return
		}
		// The connection may have ended by now, and this is what it had.
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		err := ib.ack(ctx, c, at)
		cancel()
		if err != nil && !errors.Is(err, ErrPosition) { // else its epoch has ended meanwhile
			ib.catcher.broken(c, err)
		}
		f.mu.Lock()
		f.acking = f.given != at
		more = f.acking
		f.mu.Unlock()
	}
}
