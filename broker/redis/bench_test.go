package redis_test

import (
	"context"
	"fmt"
	"strings"
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
	s := start(b)
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
