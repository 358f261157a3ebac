package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/redis"
)

// nobody is a Sink that ignores everything.
type nobody struct{}

func (nobody) Deliver(broker.Publication) {}
func (nobody) Lost(string)                {}
func (nobody) Receive(string, []byte)     {}
func (nobody) Cut(bool)                   {}

func benchBroker(b *testing.B, durable bool) *redis.Broker {
	return benchBrokerOn(b, start(b), durable)
}

func benchBrokerOn(b *testing.B, s *server, durable bool) *redis.Broker {
	o := s.options()
	o.Durable = durable
	r, err := redis.New(o)
	require.NoError(b, err)
	require.NoError(b, r.Open(b.Context(), nobody{}))
	b.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

// BenchmarkPublish publishes 100 bytes with an id to rooms that are subscribed to and keep 1,000.
// Durable spares the question for the server's replication id.
func BenchmarkPublish(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for _, publishers := range []int{1, 64} {
			b.Run(fmt.Sprintf("durable=%v/publishers=%d", durable, publishers), func(b *testing.B) {
				r := benchBroker(b, durable)
				_, err := r.Subscribe(b.Context(), "room/a")
				require.NoError(b, err)
				var n atomic.Int64
				content := []byte(`"` + strings.Repeat("x", 98) + `"`)
				b.SetParallelism(max(1, publishers/2))
				one := func() {
					i := n.Add(1)
					p := note("room/a", 0)
					p.Message.ID, p.Message.Content = fmt.Sprint(i), content
					p.Keep = broker.Retention{Messages: 1000, Bytes: 1 << 20}
					if _, err := r.Publish(context.Background(), p); err != nil {
						b.Error(err)
					}
				}
				if publishers == 1 {
					for b.Loop() {
						one()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
	}
}

func BenchmarkSubscribe(b *testing.B) {
	r := benchBroker(b, false)
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Subscribe(context.Background(), fmt.Sprint("room/", n.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkRestore measures how long it takes after the loss of a connection until 100,000 listens
// are in force again.
func BenchmarkRestore(b *testing.B) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	s := start(b)
	to, from := benchBrokerOn(b, s, false), benchBrokerOn(b, s, false)
	var all sync.WaitGroup
	for worker := range 100 {
		all.Go(func() {
			for i := range n / 100 {
				if err := to.Listen(b.Context(), fmt.Sprint(worker, "/", i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	for b.Loop() {
		s.do("CLIENT", "KILL", "TYPE", "pubsub")
		eventually(b, func() bool { // the link is up when a new Listen is in force
			listen := to.Listen(b.Context(), "x")
			got, err := from.Send(b.Context(), nil, "x")
			return errors.Join(listen, err, to.Unlisten(b.Context(), "x")) == nil && got == 1
		})
	}
}

func BenchmarkRead(b *testing.B) {
	r := benchBroker(b, false)
	for i := range 1000 {
		_, err := r.Publish(b.Context(), note("room/a", i))
		require.NoError(b, err)
	}
	for b.Loop() {
		if _, err := r.Read(b.Context(), "room/a", broker.Query{Backwards: true, Limit: 50}); err != nil {
			b.Error(err)
		}
	}
}
