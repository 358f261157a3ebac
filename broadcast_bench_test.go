package realtime

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// discardTransport is a transport that discards what is written to it, and from which nothing is
// read.
type discardTransport struct{}

func (discardTransport) RemoteAddr() string                              { return "nowhere" }
func (d discardTransport) Wire() sendqueue.Wire                          { return d }
func (discardTransport) Protocol() wire.Protocol                         { return wire.ProtoPlain }
func (discardTransport) Deflates() bool                                  { return false }
func (discardTransport) Attach(*sendqueue.Queue, transport.Events, int)  {}
func (discardTransport) Interrupt() bool                                 { return true }
func (discardTransport) Ahead() bool                                     { return false }
func (discardTransport) Unseen() int                                     { return 0 }
func (discardTransport) Park() bool                                      { return true }
func (discardTransport) Discard()                                        {}
func (discardTransport) Release()                                        {}
func (discardTransport) Write([]*sendqueue.Frame, sendqueue.Meter) error { return nil }
func (discardTransport) SetWriteDeadline(time.Time) error                { return nil }
func (discardTransport) CloseWrite() error                               { return nil }
func (discardTransport) Close() error                                    { return nil }

func (discardTransport) Next([]byte, bool) (sendqueue.Op, []byte, error) { panic("not readable") }

// benchManager is a Manager whose send queues the benchmark itself empties from time to time, so
// that no other goroutine runs while it measures.
type benchManager struct {
	*Manager
	conns   []*Conn
	waiting []func() // goroutines that the queues would have started
}

// newBenchManager returns a Manager with n connections, each of its own user. All are in the room
// "hall", and ten each share a room "r0", "r1", …
func newBenchManager(b *testing.B, n int, keep ...Retention) *benchManager {
	o := Options{
		Authorize: InsecureAllowAll,
		Limits: Limits{
			InboundRate: -1, InboundBytes: -1, QueueMessages: -1, Conns: -1, ConnsPerUser: -1,
		},
		Timeouts: Timeouts{Ping: -1},
	}
	if len(keep) > 0 {
		o.History = keep[0]
	}
	s := &benchManager{Manager: New(&o)}
	startGoroutine := s.registry.pool.Queues.Go
	s.registry.pool.Queues.Go = func(f func()) { s.waiting = append(s.waiting, f) }
	for i := range n {
		c, err := s.Register(context.Background(), Transport{discardTransport{}, new(atomic.Bool)},
			Identity{UserID: fmt.Sprint("u", i)})
		if err != nil {
			b.Fatal(err)
		}
		for _, room := range []string{"hall", fmt.Sprint("r", i/10)} {
			if err := s.joins.join(context.Background(), c, &joinOp{room: room}); err != nil {
				b.Fatal(err)
			}
		}
		s.conns = append(s.conns, c)
	}
	s.empty()
	b.Cleanup(func() {
		s.empty()
		s.registry.pool.Queues.Go = startGoroutine
		_ = s.Close()
	})
	return s
}

func (s *benchManager) empty() {
	for _, f := range s.waiting {
		f()
	}
	s.waiting = s.waiting[:0]
}

// BenchmarkRoute resolves a target and puts one message into the queues of its receivers. After
// each 64 messages it empties the queues.
func BenchmarkRoute(b *testing.B) {
	s := newBenchManager(b, 1000)
	id := s.conns[500].ID()
	for _, test := range []struct {
		name string
		to   Target
		want int
	}{
		{"conn", ToConn(id), 1},
		{"user", ToUser("u500"), 1},
		{"nobody", ToRoom("nowhere"), 0},
		{"room/10", ToRoom("r50"), 10},
		{"room/1000", ToRoom("hall"), 1000},
		{"except/1000", ToRoom("hall").Except(id), 999},
		{"union/3x10", ToRoom("r1", "r2", "r3"), 30},
		{"all/1000", ToAll(), 1000},
	} {
		b.Run(test.name, func(b *testing.B) {
			p := &broker.Publication{
				Target: broker.Target(test.to), Message: broker.Message(Chat("u0", "hello, world")),
			}
			sent := 0
			b.ReportAllocs()
			for b.Loop() {
				if res := s.broadcast.deliver(p); res.Queued != test.want {
					b.Fatal(res)
				}
				if sent++; sent%64 == 0 {
					s.empty()
				}
			}
			s.empty()
		})
	}
}

// BenchmarkReceive delivers one message that another node has sent to a room. It is to need about as
// much as the same message in BenchmarkRoute.
func BenchmarkReceive(b *testing.B) {
	s := newBenchManager(b, 1000)
	for _, test := range []struct {
		name string
		to   Target
	}{{"room/10", ToRoom("r50")}, {"room/1000", ToRoom("hall")}} {
		b.Run(test.name, func(b *testing.B) {
			sent := broker.Publication{
				Target: broker.Target(test.to), Message: broker.Message(Chat("u0", "hello, world")),
			}
			data, err := sent.AppendBinary(nil)
			if err != nil {
				b.Fatal(err)
			}
			received := 0
			b.ReportAllocs()
			for b.Loop() {
				var p broker.Publication
				if err := p.UnmarshalBinary(data); err != nil {
					b.Fatal(err)
				}
				sink{s.Manager}.deliverForeign(&p)
				if received++; received%64 == 0 {
					s.empty()
				}
			}
			s.empty()
		})
	}
}

// BenchmarkHistory compares a message to a room that keeps history with the same message to a room
// that does not.
func BenchmarkHistory(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		for name, keep := range map[string]int{"plain": 0, "kept": 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, members), func(b *testing.B) {
				s := newBenchManager(b, members, Retention{Messages: keep})
				ctx, sent := context.Background(), 0
				b.ReportAllocs()
				for b.Loop() {
					res, err := s.Send(ctx, ToRoom("hall"), Chat("u0", "hello, world"))
					if err != nil || res.Queued != members {
						b.Fatal(res, err)
					}
					if sent++; sent%64 == 0 {
						s.empty()
					}
				}
				s.empty()
			})
		}
	}
}

// repeatTransport is a transport from which the same text is read many times.
type repeatTransport struct {
	discardTransport
	text  string
	left  int    // how many times
	empty func() // called after each 64 texts
	done  chan struct{}
}

func (*repeatTransport) Park() bool { return false }

func (r *repeatTransport) Next(buf []byte, _ bool) (sendqueue.Op, []byte, error) {
	if r.left == 0 {
		r.done <- struct{}{}
		return 0, nil, &CloseError{Cause: CauseLost, Code: CloseLost}
	}
	if r.left--; r.left%64 == 0 {
		r.empty()
	}
	return sendqueue.OpText, append(buf, r.text...), nil
}

// BenchmarkDispatch measures a short chat message from its text to the end of the delivery, to a
// room with one member and to nobody.
func BenchmarkDispatch(b *testing.B) {
	for name, text := range map[string]string{
		"room":   `{"content":"hello, world","target":"room"}`,
		"nobody": `{"content":"hello, world","target":"nobody"}`,
	} {
		b.Run(name, func(b *testing.B) {
			s := newBenchManager(b, 0)
			r := &repeatTransport{text: text, left: b.N, empty: s.empty, done: make(chan struct{})}
			s.opts.OnConnect = func(ctx context.Context, c *Conn) error {
				return s.joins.join(ctx, c, &joinOp{room: "hall"})
			}
			b.ReportAllocs()
			_, err := s.Register(context.Background(), Transport{r, new(atomic.Bool)}, Identity{UserID: "u0"})
			if err != nil {
				b.Fatal(err)
			}
			<-r.done
		})
	}
}

// BenchmarkGrowth measures one room of ten members among up to a million connections, in memory and
// without sockets: go test -run '^$' -bench Growth -timeout 30m.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		if n > 1_000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := liveHeap()
			s := newBenchManager(b, n)
			perConn := float64(liveHeap()-before) / float64(n)
			id, room := s.conns[n/2].ID(), fmt.Sprint("r", n/20)
			ctx := context.Background()
			b.Run("send", func(b *testing.B) {
				sent := 0
				for b.Loop() {
					if _, err := s.Send(ctx, ToRoom(room), Chat("u0", "hello")); err != nil {
						b.Fatal(err)
					}
					if sent++; sent%64 == 0 {
						s.empty()
					}
				}
				b.ReportMetric(perConn, "B/conn")
				s.empty()
			})
			b.Run("join+leave", func(b *testing.B) {
				for b.Loop() {
					_, joining := s.Join(ctx, id, "another")
					_, leaving := s.Leave(ctx, id, "another")
					if joining != nil || leaving != nil {
						b.Fatal(joining, leaving)
					}
				}
			})
		})
	}
}

// liveHeap returns the size of the heap after a garbage collection, in bytes.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
