package realtime_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/brokertest"
)

func TestMemoryKeepsThePromises(t *testing.T) {
	brokertest.Run(t, func(*testing.T) realtime.Broker { return realtime.NewMemory(nil) })
}

// nobody is a Sink.
type nobody struct{}

func (nobody) Deliver(realtime.Publication) {}
func (nobody) Lost(string)                  {}

// Whoever may send to any room cannot fill memory with rooms that nobody is in.
func TestMemoryOfManyStreamsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemory(&realtime.MemoryOptions{Bytes: 1 << 20})
		require.NoError(t, b.Open(t.Context(), nobody{}))
		publish := func(stream, id string) error {
			_, err := b.Publish(t.Context(), realtime.Publication{
				Stream: stream, Keep: realtime.Retention{Messages: 10, Age: 24 * time.Hour},
				Message: realtime.Message{Type: "news", ID: id, Content: []byte("1")},
			})
			return err
		}
		before := heap()
		for i := range 50_000 {
			require.NoError(t, publish(realtime.RoomStream(fmt.Sprint(i)), "id"))
			time.Sleep(time.Second)
		}
		require.Less(t, heap()-before, int64(4<<20))
		require.NoError(t, publish(realtime.InboxStream("bob"), ""))

		page, err := b.Read(t.Context(), realtime.RoomStream("49999"), realtime.Query{})
		require.NoError(t, err)
		require.Len(t, page.Publications, 1, "the newest stay")
		require.NoError(t, b.Close(t.Context()))
	})
}

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestMemoryIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemory(&realtime.MemoryOptions{Bytes: 100 << 10})
		require.NoError(t, b.Open(t.Context(), nobody{}))
		publish := func(stream string) (realtime.Published, error) {
			return b.Publish(t.Context(), realtime.Publication{
				Stream: stream, Keep: realtime.Retention{Messages: 100},
				Message: realtime.Message{Type: "news", Content: make([]byte, 10<<10)},
			})
		}
		inbox, old := realtime.InboxStream("bob"), realtime.RoomStream("old")
		_, err := publish(old)
		require.NoError(t, err)
		time.Sleep(time.Second)
		var last realtime.Published
		for err == nil {
			var out realtime.Published
			if out, err = publish(inbox); err == nil {
				last = out
			}
		}
		require.ErrorIs(t, err, realtime.ErrFull)
		require.Equal(t, uint64(10), last.Position.Offset)
		page, err := b.Read(t.Context(), old, realtime.Query{})
		require.NoError(t, err)
		require.Equal(t, realtime.ReasonOverflow, page.Why, "a room makes room")
		_, err = b.Cursor(t.Context(), inbox, "")
		require.NoError(t, err)
		require.NoError(t, b.Ack(t.Context(), inbox, "", last.Position))
		_, err = publish(inbox)
		require.NoError(t, err)
		require.NoError(t, b.Close(t.Context()))
	})
}

func TestTwoManagersOfOneBroker(t *testing.T) {
	o := keeping(10)
	o.Broker = realtime.NewMemory(nil)
	bubble(t, o, func(t *testing.T, b *bed) {
		synctest.Wait() // the broker is its
		other := newBed(t, o)
		_, err := other.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{})
		require.ErrorContains(t, err, "serves another Manager")
		require.NoError(t, other.Close())
		require.Equal(t, 1, b.news(realtime.ToRoom("hall"), "still here").Kept)
	})
}
