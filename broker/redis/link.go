package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// batch is how many names are in one command.
const batch = 256

// link is a connection that is subscribed to channels: to all, or in a Redis Cluster to those of
// one bucket. It is made again after each loss, with all its subscriptions.
type link struct {
	b     *Broker
	index int

	server serverConn // the connection; used by run only

	receiving sync.Mutex // held while something is received

	mu       sync.Mutex
	channels map[string]*channel
	conn     rueidis.DedicatedClient // nil while there is none
	number   uint64                  // of the connection
	lost     chan struct{}           // of conn: closed to give it up
	up       chan struct{}           // closed while all subscriptions are in force
	isUp     bool
	mending  bool // a goroutine waits until the link is up
}

// channel is a channel to which a link is or shall be subscribed.
type channel struct {
	name   string
	bucket int
	ops    chan struct{} // holds an element while a command changes the subscription

	// Guarded by link.mu:
	count   int
	number  uint64 // of the connection that is subscribed
	leaving bool   // a command is under way that ends the subscription
}

func newLink(b *Broker, index int) *link {
	return &link{
		b: b, index: index, channels: map[string]*channel{}, up: make(chan struct{}),
	}
}

// link returns the link that carries a bucket.
func (b *Broker) link(bucket int) *link {
	if len(b.links) == 1 {
		return b.links[0]
	}
	return b.links[bucket]
}

// run connects, again and again, until the broker closes.
func (l *link) run() {
	var again backoff
	client, err := l.b.engine(l.b.ctx)
	if err != nil {
		return
	}
	for {
		if l.serve(client) {
			again = 0
		}
		if !again.wait(l.b.ctx) {
			return
		}
	}
}

// serve makes one connection and returns when it is lost. It reports whether the subscriptions have
// been in force.
func (l *link) serve(client rueidis.Client) (served bool) {
	conn, release := client.Dedicate()
	defer release()
	defer conn.Close()
	l.mu.Lock()
	l.number++
	number, lost := l.number, make(chan struct{})
	l.lost = lost
	l.mu.Unlock()
	closed := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { l.receive(number, m) },
		OnSubscription: func(s rueidis.PubSubSubscription) { l.subscription(s) },
	})
	defer l.drop(number)
	if err := l.restore(conn, number); err != nil {
		l.b.cut.failed(err)
		return false
	}
	heard := time.Now()
	l.rise()
	defer l.fall()
	l.b.cut.up()
	l.b.compare.all(l)
	l.b.cut.fell(l.watch(conn, heard, closed, lost))
	return true
}

// watch returns when the connection is lost, or is to another server than the one that takes
// publications. heard is when the server has answered for the last time, and so is the result.
func (l *link) watch(
	conn rueidis.DedicatedClient, heard time.Time, closed <-chan error, lost <-chan struct{},
) time.Time {
	timeout := l.b.options.Timeout
	check := time.NewTicker(timeout / 5)
	defer check.Stop()
	for ; ; heard = time.Now() {
		select {
		case <-check.C:
		case <-closed:
			return heard
		case <-lost:
			return heard
		case <-l.b.ctx.Done():
			return heard
		}
		if !l.isMaster(conn, heard.Add(timeout)) {
			return heard
		}
	}
}

func (l *link) isMaster(conn rueidis.DedicatedClient, until time.Time) bool {
	ctx, cancel := context.WithDeadline(l.b.ctx, until)
	defer cancel()
	info, err := conn.Do(ctx, conn.B().Info().Section("replication").Build()).ToString()
	return err == nil && strings.Contains(info, "role:master")
}

// restore subscribes a new connection to all channels.
func (l *link) restore(conn rueidis.DedicatedClient, number uint64) error {
	l.mu.Lock()
	l.conn = conn
	buckets := map[int][]*channel{}
	for _, c := range l.channels {
		if c.count > 0 {
			buckets[c.bucket] = append(buckets[c.bucket], c)
		}
	}
	l.mu.Unlock()
	// At least one command, which also shows that the connection works.
	idle := &channel{name: l.b.names.idle(l.index)}
	if err := l.ssubscribe(conn, []*channel{idle}, number); err != nil {
		return err
	}
	l.replace(conn)
	for _, all := range buckets {
		for some := range slices.Chunk(all, batch) {
			if err := l.ssubscribe(conn, some, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// serverConn names a connection as its server does. The zero value names none.
type serverConn struct {
	run string // of the server: each start is another one
	id  int64
}

// replace ends the connection before this one, if its server still keeps it, as after a cut that the
// server has not noticed: what is sent would be counted as received there, for minutes. Without the
// right to do that, nothing happens.
func (l *link) replace(conn rueidis.DedicatedClient) {
	ctx, cancel := context.WithTimeout(l.b.ctx, l.b.options.Timeout)
	defer cancel()
	id, err := conn.Do(ctx, conn.B().ClientId().Build()).AsInt64()
	if err != nil {
		return
	}
	info, err := conn.Do(ctx, conn.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return
	}
	_, run, _ := strings.Cut(info, "run_id:")
	run, _, _ = strings.Cut(run, "\r")
	if l.server.id != 0 && l.server.run == run {
		_ = conn.Do(ctx, conn.B().ClientKill().Id(l.server.id).Build()).Error()
	}
	l.server = serverConn{run, id}
}

// ssubscribe subscribes a connection to channels of one bucket.
func (l *link) ssubscribe(conn rueidis.DedicatedClient, all []*channel, number uint64) error {
	ctx, cancel := context.WithTimeout(l.b.ctx, l.b.options.Timeout)
	defer cancel()
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	if err := conn.Do(ctx, conn.B().Ssubscribe().Channel(names...).Build()).Error(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range all {
		c.number = number
	}
	return nil
}

// drop forgets a connection. When it returns, nothing is received from it any more.
func (l *link) drop(number uint64) {
	l.mu.Lock()
	if l.number == number {
		l.number++
		l.conn = nil
	}
	l.mu.Unlock()
	l.receiving.Lock()
	defer l.receiving.Unlock()
}

func (l *link) rise() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isUp = true
	close(l.up)
}

func (l *link) fall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isUp, l.up = false, make(chan struct{})
}

// giveUp gives the connection up. l.mu is held.
func (l *link) giveUp() {
	if l.lost != nil {
		close(l.lost)
		l.lost = nil
	}
}

// join subscribes to a channel, once more. The subscription is in force when it returns nil. Each
// join ends with one leave, also if it fails.
func (l *link) join(ctx context.Context, bucket int, name string) error {
	return l.settle(ctx, l.add(bucket, name))
}

// add notes that a channel is to be subscribed to, once more.
func (l *link) add(bucket int, name string) *channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.channels[name]
	if c == nil {
		c = &channel{name: name, bucket: bucket, ops: make(chan struct{}, 1)}
		l.channels[name] = c
	}
	c.count++
	return c
}

// settle waits until the subscription to a channel is in force.
func (l *link) settle(ctx context.Context, c *channel) error {
	for {
		conn, number, err := l.ready(ctx)
		if err != nil {
			return err
		}
		done, err := l.joinAt(ctx, c, conn, number)
		if done || err != nil {
			return err
		}
	}
}

// mend subscribes to what join could not subscribe to, as soon as the link is up. A new connection
// is subscribed to everything anyway.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mending {
		return
	}
	l.mending = true
	l.b.spawn(func() {
		conn, number, err := l.ready(l.b.ctx)
		l.mu.Lock()
		l.mending = false
		var missing []*channel
		for _, c := range l.channels {
			if c.count > 0 && c.number != number {
				missing = append(missing, c)
			}
		}
		l.mu.Unlock()
		for _, c := range missing {
			if err == nil {
				_, err = l.joinAt(l.b.ctx, c, conn, number)
			}
		}
	})
}

// ready waits until the link is up.
func (l *link) ready(ctx context.Context) (rueidis.DedicatedClient, uint64, error) {
	for {
		l.mu.Lock()
		conn, number, up, isUp := l.conn, l.number, l.up, l.isUp
		l.mu.Unlock()
		if isUp && conn != nil {
			return conn, number, nil
		}
		if isUp { // it is about to fall
			up = nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// joinAt subscribes a connection to a channel. It reports false if there is another connection.
func (l *link) joinAt(
	ctx context.Context, c *channel, conn rueidis.DedicatedClient, number uint64,
) (done bool, err error) {
	select {
	case c.ops <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-c.ops }()
	l.mu.Lock()
	done, current := c.number == number || c.count == 0, l.number == number
	l.mu.Unlock()
	if done || !current {
		return done, nil
	}
	if err = l.ssubscribe(conn, []*channel{c}, number); err != nil {
		if _, answered := errors.AsType[*rueidis.RedisError](err); !answered {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.number == number { // whether it is subscribed is unknown
				l.giveUp()
			}
			return false, ctx.Err()
		}
	}
	return err == nil, err
}

// leave ends one join.
func (l *link) leave(ctx context.Context, name string) {
	l.mu.Lock()
	c := l.channels[name]
	if c == nil || c.count == 0 {
		l.mu.Unlock()
		return
	}
	c.count--
	last := c.count == 0
	l.mu.Unlock()
	if !last {
		return
	}
	select {
	case c.ops <- struct{}{}:
		defer func() { <-c.ops }()
	case <-ctx.Done():
		return // it stays subscribed; what arrives is ignored
	}
	l.mu.Lock()
	if c.count > 0 || l.channels[name] != c {
		l.mu.Unlock()
		return
	}
	conn, subscribed := l.conn, c.number == l.number
	c.number, c.leaving = 0, true
	l.mu.Unlock()
	if conn != nil && subscribed {
		// If it fails, the connection is lost, or what arrives is ignored.
		_ = conn.Do(ctx, conn.B().Sunsubscribe().Channel(name).Build()).Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.leaving = false; c.count == 0 {
		delete(l.channels, name)
	}
}

// subscription is called when the server begins or ends a subscription. It ends one by itself when
// the channel moves to another server.
func (l *link) subscription(s rueidis.PubSubSubscription) {
	if s.Kind != "sunsubscribe" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.channels[s.Channel]; c != nil && c.count > 0 && c.number != 0 && !c.leaving {
		l.giveUp()
	}
}

// receive takes what has arrived through a connection.
func (l *link) receive(number uint64, m rueidis.PubSubMessage) {
	l.receiving.Lock()
	defer l.receiving.Unlock()
	l.mu.Lock()
	c := l.channels[m.Channel]
	current := l.number == number
	l.mu.Unlock()
	if c == nil || !current {
		return
	}
	if name, ok := l.b.names.name(c.bucket, m.Channel); ok {
		l.b.received(name, m.Message)
	}
}
