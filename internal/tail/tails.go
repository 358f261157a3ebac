package tail

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/shardmap"
)

// Config is what tails need of their broker.
type Config struct {
	Sink broker.Sink
	// Read reads a stream. It returns within the bound of the broker.
	Read func(ctx context.Context, stream string, q broker.Query) (broker.Page, error)
	// Go runs a function in a goroutine that the broker waits for when it closes, or not at all if
	// the broker is closed.
	Go func(func())
	// Context ends when the broker closes.
	Context context.Context
}

// Tails are the ends of all streams that a broker is subscribed to. It is safe for concurrent use.
type Tails struct {
	cfg Config
	all *shardmap.Map[*tail]
}

// New returns Tails of no stream.
func New(cfg Config) *Tails { return &Tails{cfg: cfg, all: shardmap.New[*tail]()} }

// Subscribe begins a subscription to a stream, before the engine passes anything on. It reports
// whether it is the only one. What arrives waits until Start.
func (ts *Tails) Subscribe(stream string) (first bool) {
	for {
		t := ts.all.GetOrPut(stream, func() *tail { return &tail{ts: ts, stream: stream} })
		t.mu.Lock()
		if t.ended {
			t.mu.Unlock()
			ts.all.CompareAndDelete(stream, t)
			continue
		}
		t.subscriptions++
		first = t.subscriptions == 1
		t.mu.Unlock()
		return first
	}
}

// Unsubscribe ends a subscription. It reports whether that was the last one.
func (ts *Tails) Unsubscribe(stream string) (last bool) {
	t, ok := ts.all.Get(stream)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	if t.subscriptions--; t.subscriptions > 0 {
		return false
	}
	t.end()
	ts.all.CompareAndDelete(stream, t)
	return true
}

// Start delivers what comes after the position, which was the end of the stream when the engine had
// already begun to pass on what is published. It returns the position after which everything is
// delivered: for the first call that one, and for later ones the last that was delivered.
func (ts *Tails) Start(stream string, at broker.Position) broker.Position {
	t, ok := ts.all.Get(stream)
	if !ok {
		return at
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		return t.last
	}
	t.started, t.last = true, at
	if t.must {
		t.fillLater(0)
	}
	t.drain()
	return at
}

// Arrived takes a publication that the engine has passed on, or that was published by this process.
// It reports false if there is no subscription to its stream. Sink.Deliver is called with it, now or
// later, unless it was delivered before.
func (ts *Tails) Arrived(p broker.Publication) bool {
	t, ok := ts.all.Get(p.Stream)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.keep(p)
	t.drain()
	return true
}

// Compare reads what is missing up to the end of a stream, as the engine says it.
func (ts *Tails) Compare(stream string, top broker.Position) {
	t, ok := ts.all.Get(stream)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started && (top.Epoch != t.last.Epoch || top.Offset > t.last.Offset) {
		t.fill()
	}
}

// Await waits until a position of a stream was delivered or given up, there is no subscription any
// more, or ctx ends.
func (ts *Tails) Await(ctx context.Context, stream string, at broker.Position) {
	t, ok := ts.all.Get(stream)
	if !ok {
		return
	}
	for {
		t.mu.Lock()
		if t.ended || !t.started || t.last.Epoch != at.Epoch || t.last.Offset >= at.Offset {
			t.mu.Unlock()
			return
		}
		if t.moved == nil {
			t.moved = make(chan struct{})
		}
		moved := t.moved
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// Streams returns the names of the streams with a subscription.
func (ts *Tails) Streams() (names []string) {
	for _, t := range ts.all.Values() {
		names = append(names, t.stream)
	}
	return names
}

// Close ends all subscriptions.
func (ts *Tails) Close() {
	for _, t := range ts.all.Values() {
		t.mu.Lock()
		t.end()
		t.mu.Unlock()
		ts.all.CompareAndDelete(t.stream, t)
	}
}

const (
	// patience is how long a missing publication may still arrive by itself: what a process has
	// published may come back sooner than what others have published before.
	patience = 100 * time.Millisecond
	// retry is the time between two attempts to read.
	retry = time.Second
	// Bounds of the publications that wait.
	maxEarly      = 256
	maxEarlyBytes = 1 << 20
	// maxMissed is how many publications are read for a subscription. If it misses more, each
	// receiver reads for itself, at its own pace.
	maxMissed = 1000
)

// tail is the end of a stream.
type tail struct {
	ts     *Tails
	stream string

	mu            sync.Mutex // held during Deliver
	subscriptions int
	started       bool
	ended         bool
	last          broker.Position // delivered or given up
	early         []early
	bytes         int           // of early
	reads         uint64        // that have begun
	filling       bool          // a read runs, or will run
	must          bool          // a read must begin
	timer         *time.Timer   // begins to read; nil if there is none
	moved         chan struct{} // closed when last changes; nil if nobody waits
}

// early is a publication that cannot be delivered yet.
type early struct {
	broker.Publication
	reads uint64 // that had begun when it arrived
}

// end requires that t.mu is held, like all following methods that do not say otherwise.
func (t *tail) end() {
	t.ended, t.early = true, nil
	if t.timer != nil {
		t.timer.Stop()
	}
	t.wake()
}

func (t *tail) wake() {
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// keep notes a publication that has arrived.
func (t *tail) keep(p broker.Publication) {
	if t.started && p.Position.Epoch == t.last.Epoch && p.Position.Offset <= t.last.Offset {
		return
	}
	if t.bytes += p.Size(); len(t.early) == maxEarly || t.bytes > maxEarlyBytes {
		t.early, t.bytes = nil, 0 // they are read, which a read that has begun may not do
		t.must = true
		t.fillLater(0)
		return
	}
	t.early = append(t.early, early{p, t.reads})
}

// drain delivers what can be delivered.
func (t *tail) drain() {
	if !t.started {
		return
	}
	for t.deliverNext() {
	}
	t.bytes = 0
	for i := range t.early {
		t.bytes += t.early[i].Size()
	}
	if len(t.early) == 0 {
		t.early = nil
		return
	}
	t.fillUnless()
}

// deliverNext delivers one of the early publications, and forgets those that were delivered before.
func (t *tail) deliverNext() (delivered bool) {
	rest := t.early[:0]
	for i := range t.early {
		p := t.early[i]
		switch {
		case p.Position.Epoch == t.last.Epoch && p.Position.Offset <= t.last.Offset:
		case p.Follows(t.last):
			t.deliver(&p.Publication)
			delivered = true
		default:
			rest = append(rest, p)
		}
	}
	clear(t.early[len(rest):])
	t.early = rest
	return delivered
}

func (t *tail) deliver(p *broker.Publication) {
	t.last = p.Position
	t.ts.cfg.Sink.Deliver(*p)
	t.wake()
}

// fillLater reads what is missing after a time, unless that is about to happen. Before Start it is
// unknown what is missing.
func (t *tail) fillLater(wait time.Duration) {
	if t.filling || t.ended || !t.started {
		return
	}
	t.filling = true
	start := func() { t.ts.cfg.Go(t.read) }
	if wait == 0 {
		start()
		return
	}
	t.timer = time.AfterFunc(wait, start)
}

// fillUnless reads what is missing if it does not arrive in time. As long as the stream moves on,
// what is missing is something else each time.
func (t *tail) fillUnless() {
	if t.filling || t.ended {
		return
	}
	t.filling = true
	from := t.last
	t.timer = time.AfterFunc(patience, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case t.ended:
		case t.last == from && len(t.early) > 0 || t.must:
			t.ts.cfg.Go(t.read)
		default:
			if t.filling = false; len(t.early) > 0 {
				t.fillUnless()
			}
		}
	})
}

// fill reads what is missing now.
func (t *tail) fill() {
	if t.timer != nil && t.timer.Stop() {
		t.filling = false
	}
	t.must = true // the timer may be about to decide
	t.fillLater(0)
}

// read reads what is missing, and delivers it. The caller does not hold t.mu.
func (t *tail) read() {
	ctx := t.ts.cfg.Context
	for missed := 0; ; {
		t.mu.Lock()
		from := t.last
		t.reads++
		t.must = false
		t.mu.Unlock()
		page, err := t.ts.cfg.Read(ctx, t.stream, broker.Query{After: from.Offset})
		t.mu.Lock()
		missed += len(page.Publications)
		more := err == nil && !t.ended && t.take(&page, missed)
		if !more {
			t.filled(err)
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
	}
}

// take delivers the publications of a page. It reports whether there are more to read.
func (t *tail) take(page *broker.Page, missed int) (more bool) {
	behind := t.last.Epoch == page.Top.Epoch && t.last.Offset >= page.Top.Offset
	if page.Top.Epoch == "" || behind { // all of it has arrived meanwhile
		return false
	}
	if page.GapAfter(t.last) != "" || missed > maxMissed {
		t.giveUp(page.Top)
		return false
	}
	for i := range page.Publications {
		p := page.Publications[i]
		if p.Position.Offset <= t.last.Offset {
			continue
		}
		if !p.Follows(t.last) { // the one before it has expired
			t.giveUp(page.Top)
			return false
		}
		for _, e := range t.early {
			if e.Position == p.Position { // it may have an origin
				p = e.Publication
			}
		}
		t.deliver(&p)
	}
	if !page.More && page.Top.Offset > t.last.Offset { // the last ones have expired
		t.giveUp(page.Top)
	}
	return page.More
}

// filled ends a read. What arrived before it began, and still does not follow, is not in the
// stream: it belongs to an older epoch, or the engine has lost it.
func (t *tail) filled(err error) {
	t.filling = false
	switch {
	case t.ended:
		return
	case err != nil:
		t.fillLater(retry)
		return
	case t.must:
		t.fillLater(0)
	}
	for t.deliverNext() {
	}
	t.early = slices.DeleteFunc(t.early, func(e early) bool { return e.reads < t.reads })
	t.drain()
}

// giveUp leaves it to the receivers to read what is missing up to a position.
func (t *tail) giveUp(top broker.Position) {
	t.last = top
	t.ts.cfg.Sink.Lost(t.stream)
	t.wake()
}
