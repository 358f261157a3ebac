package realtime

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// deaf is a transport that takes everything, and from which nothing comes.
type deaf struct{}

func (deaf) RemoteAddr() string                              { return "nowhere" }
func (d deaf) Wire() sendqueue.Wire                          { return d }
func (deaf) Protocol() wire.Protocol                         { return wire.ProtoPlain }
func (deaf) Deflates() bool                                  { return false }
func (deaf) Attach(*sendqueue.Queue, transport.Events, int)  {}
func (deaf) Interrupt() bool                                 { return true }
func (deaf) Ahead() bool                                     { return false }
func (deaf) Unseen() int                                     { return 0 }
func (deaf) Park() bool                                      { return true }
func (deaf) Discard()                                        {}
func (deaf) Release()                                        {}
func (deaf) Write([]*sendqueue.Frame, sendqueue.Meter) error { return nil }
func (deaf) SetWriteDeadline(time.Time) error                { return nil }
func (deaf) CloseWrite() error                               { return nil }
func (deaf) Close() error                                    { return nil }

func (deaf) Next([]byte, bool) (sendqueue.Op, []byte, error) { panic("nothing comes") }

// switchboard is a Manager whose links are emptied by the benchmark itself, now and then:
// no goroutine runs beside it while it measures.
type switchboard struct {
	*Manager
	conns   []*Conn
	waiting []func() // what links would have started
}

// newSwitchboard has n connections: all are in the room "hall" and belong to their own
// user, and each ten of them share a room "r0", "r1", …
func newSwitchboard(b *testing.B, n int, keep ...Retention) *switchboard {
	o := Options{
		Authorize: InsecureAllowAll, Limits: Limits{InboundRate: -1, InboundBytes: -1, QueueMessages: -1, Conns: -1, ConnsPerUser: -1},
		Timeouts: Timeouts{Ping: -1},
	}
	if len(keep) > 0 {
		o.History = keep[0]
	}
	s := &switchboard{Manager: New(&o)}
	goOn := s.registry.pool.Queues.Go
	s.registry.pool.Queues.Go = func(f func()) { s.waiting = append(s.waiting, f) }
	for i := range n {
		c, err := s.Register(context.Background(), Transport{deaf{}},
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
		s.registry.pool.Queues.Go = goOn
		_ = s.Close()
	})
	return s
}

func (s *switchboard) empty() {
	for _, f := range s.waiting {
		f()
	}
	s.waiting = s.waiting[:0]
}

// BenchmarkRoute resolves a target and gives one message to its receivers' queues. One in
// 64 messages pays for emptying them.
func BenchmarkRoute(b *testing.B) {
	s := newSwitchboard(b, 1000)
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

// BenchmarkHistory is what it costs that a room keeps what is sent to it: the same message to rooms
// that do and do not.
func BenchmarkHistory(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		for name, keep := range map[string]int{"plain": 0, "kept": 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, members), func(b *testing.B) {
				s := newSwitchboard(b, members, Retention{Messages: keep})
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

// replay is a transport from which the same text comes again and again.
type replay struct {
	deaf
	text  string
	left  int    // how many times
	empty func() // called now and then
	done  chan struct{}
}

func (*replay) Park() bool { return false }

func (r *replay) Next(buf []byte, _ bool) (sendqueue.Op, []byte, error) {
	if r.left == 0 {
		r.done <- struct{}{}
		return 0, nil, &CloseError{Cause: CauseLost, Code: CloseLost}
	}
	if r.left--; r.left%64 == 0 {
		r.empty()
	}
	return sendqueue.OpText, append(buf, r.text...), nil
}

// BenchmarkDispatch is what a small chat costs from its text to the end of its delivery, to
// a room of one and to nobody.
func BenchmarkDispatch(b *testing.B) {
	for name, text := range map[string]string{
		"room":   `{"content":"hello, world","target":"room"}`,
		"nobody": `{"content":"hello, world","target":"nobody"}`,
	} {
		b.Run(name, func(b *testing.B) {
			s := newSwitchboard(b, 0)
			r := &replay{text: text, left: b.N, empty: s.empty, done: make(chan struct{})}
			s.opts.OnConnect = func(ctx context.Context, c *Conn) error {
				return s.joins.join(ctx, c, &joinOp{room: "hall"})
			}
			b.ReportAllocs()
			if _, err := s.Register(context.Background(), Transport{r}, Identity{UserID: "u0"}); err != nil {
				b.Fatal(err)
			}
			<-r.done
		})
	}
}

// BenchmarkGrowth is what one room of ten costs among more and more connections, in memory
// and without sockets: go test -run '^$' -bench Growth -timeout 30m.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		if n > 1_000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := liveHeap()
			s := newSwitchboard(b, n)
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

// liveHeap is what is in use after a collection, in bytes.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
