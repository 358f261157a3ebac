package memory_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/memory"
)

func TestConformance(t *testing.T) {
	brokertest.Run(t, func(*testing.T) broker.Broker { return memory.New(nil) })
}

// nobody is a Sink that ignores everything.
type nobody struct{}

func (nobody) Deliver(broker.Publication) {}
func (nobody) Lost(string)                {}
func (nobody) Receive(string, []byte)     {}
func (nobody) Cut(bool)                   {}

// A client that may send to any room cannot fill memory with rooms without members.
func TestMemoryOfManyStreamsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Options{Bytes: 1 << 20})
		require.NoError(t, b.Open(t.Context(), nobody{}))
		publish := func(stream, id string) error {
			_, err := b.Publish(t.Context(), broker.Publication{
				Stream: stream, Keep: broker.Retention{Messages: 10, Age: 24 * time.Hour},
				Message: broker.Message{Type: "news", ID: id, Content: []byte("1")},
			})
			return err
		}
		before := heap()
		for i := range 50_000 {
			require.NoError(t, publish(broker.RoomStream(fmt.Sprint(i)), "id"))
			time.Sleep(time.Second)
		}
		require.Less(t, heap()-before, int64(4<<20))
		require.NoError(t, publish(broker.InboxStream("bob"), ""))
		for i := range 50_000 { // at one moment, so no id may be forgotten yet
			if err := publish(broker.RoomStream(fmt.Sprint("x", i)), "id"); err != nil {
				require.ErrorIs(t, err, broker.ErrFull)
				require.Greater(t, i, 500)
				break
			}
		}
		require.Less(t, heap()-before, int64(4<<20))
		require.ErrorIs(t, publish(broker.RoomStream("new"), ""), broker.ErrFull)
		require.NoError(t, publish(broker.RoomStream("49999"), "other"), "the room exists")
		require.NoError(t, publish(broker.InboxStream("carol"), ""))
		time.Sleep(5 * time.Minute)
		require.NoError(t, publish(broker.RoomStream("new"), ""))

		page, err := b.Read(t.Context(), broker.RoomStream("new"), broker.Query{})
		require.NoError(t, err)
		require.Len(t, page.Publications, 1, "the newest are kept")
		require.NoError(t, b.Close(t.Context()))
	})
}

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// publish10K publishes 10 KiB.
func publish10K(t *testing.T, b broker.Broker, stream string) (broker.Published, error) {
	t.Helper()
	return one(b.Publish(t.Context(), broker.Publication{
		Stream: stream, Keep: broker.Retention{Messages: 100},
		Message: broker.Message{Type: "news", Content: make([]byte, 10<<10)},
	}))
}

func keptIn(t *testing.T, b broker.Broker, stream string) broker.Page {
	t.Helper()
	page, err := b.Read(t.Context(), stream, broker.Query{Bytes: 1 << 20})
	require.NoError(t, err)
	return page
}

func TestMemoryIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Options{Bytes: 100 << 10})
		require.NoError(t, b.Open(t.Context(), nobody{}))
		inbox, room := broker.InboxStream("bob"), broker.RoomStream("hall")
		for range 5 {
			_, err := publish10K(t, b, room)
			require.NoError(t, err)
		}
		var last broker.Published
		var err error
		for err == nil {
			var out broker.Published
			if out, err = publish10K(t, b, inbox); err == nil {
				last = out
			}
		}
		require.ErrorIs(t, err, broker.ErrFull)
		require.Equal(t, uint64(10), last.Position.Offset)
		require.Len(t, keptIn(t, b, room).Publications, 5, "inboxes do not evict rooms")
		time.Sleep(time.Second) // makes the room the least recently used
		for i := range 20 {
			_, err := publish10K(t, b, broker.RoomStream(fmt.Sprint(i)))
			require.NoError(t, err)
		}
		require.Equal(t, broker.ReasonOverflow, keptIn(t, b, room).Why, "the oldest room is evicted")
		require.Len(t, keptIn(t, b, inbox).Publications, 10, "rooms do not evict inboxes")
		require.NoError(t, b.Ack(t.Context(), inbox, "", last.Position))
		_, err = publish10K(t, b, inbox)
		require.NoError(t, err)
		require.NoError(t, b.Close(t.Context()))
	})
}

// Rooms with a subscription are evicted after all others, however old their publications are.
func TestMemoryEvictsSubscribedRoomsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Options{Bytes: 200 << 10})
		require.NoError(t, b.Open(t.Context(), nobody{}))
		live := broker.RoomStream("live")
		_, err := b.Subscribe(t.Context(), live)
		require.NoError(t, err)
		for range 5 {
			_, err := publish10K(t, b, live)
			require.NoError(t, err)
		}
		for i := range 100 {
			time.Sleep(time.Second)
			_, err := publish10K(t, b, broker.RoomStream(fmt.Sprint(i)))
			require.NoError(t, err)
		}
		require.Len(t, keptIn(t, b, live).Publications, 5)
		require.Empty(t, keptIn(t, b, broker.RoomStream("50")).Publications)
		require.NoError(t, b.Unsubscribe(t.Context(), live))
		for i := range 20 {
			time.Sleep(time.Second)
			_, err := publish10K(t, b, broker.RoomStream(fmt.Sprint(i)))
			require.NoError(t, err)
		}
		require.Empty(t, keptIn(t, b, live).Publications)
		require.NoError(t, b.Close(t.Context()))
	})
}

// A name that is only subscribed to or asked for takes memory only during the subscription.
func TestNamesTakeNoMemory(t *testing.T) {
	b := memory.New(&memory.Options{Bytes: 64 << 10, Inboxes: 10})
	require.NoError(t, b.Open(t.Context(), nobody{}))
	room, inbox := broker.RoomStream("hall"), broker.InboxStream("bob")
	for _, stream := range []string{room, inbox} {
		_, err := publish10K(t, b, stream)
		require.NoError(t, err)
	}
	before := heap()
	for i := range 20_000 {
		name := fmt.Sprint(i)
		for _, stream := range []string{broker.RoomStream(name), broker.InboxStream(name)} {
			_, err := b.Subscribe(t.Context(), stream)
			require.NoError(t, err)
			_, err = b.Cursor(t.Context(), stream, "phone")
			require.NoError(t, err)
			if i%20 != 0 { // otherwise the subscription stays
				require.NoError(t, b.Unsubscribe(t.Context(), stream))
			}
		}
	}
	require.Less(t, heap()-before, int64(2000*1500))
	for _, stream := range []string{room, inbox} {
		_, err := publish10K(t, b, stream)
		require.NoError(t, err)
		require.Len(t, keptIn(t, b, stream).Publications, 2)
	}
	require.NoError(t, b.Close(t.Context()))
}

// A stream that has ended and begins again gets another epoch. A stream that has never begun keeps
// its epoch.
func TestEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		require.NoError(t, b.Open(t.Context(), nobody{}))
		subscribe := func(room string) broker.Position {
			at, err := b.Subscribe(t.Context(), broker.RoomStream(room))
			require.NoError(t, err)
			require.NoError(t, b.Unsubscribe(t.Context(), broker.RoomStream(room)))
			return at
		}
		names := []string{"a", "b", "c"} // one of them may be in the slot of "hall"
		var quiet []broker.Position
		for _, name := range names {
			quiet = append(quiet, subscribe(name))
		}
		was := subscribe("hall")
		for range 3 {
			_, err := b.Publish(t.Context(), broker.Publication{
				Stream: broker.RoomStream("hall"),
				Keep:   broker.Retention{Messages: 1, Age: time.Second},
			})
			require.NoError(t, err)
			time.Sleep(time.Hour)
			now := subscribe("hall")
			require.Zero(t, now.Offset)
			require.NotEqual(t, was.Epoch, now.Epoch)
			was = now
		}
		same := 0
		for i, name := range names {
			if subscribe(name) == quiet[i] {
				same++
			}
		}
		require.GreaterOrEqual(t, same, 2)
		require.NoError(t, b.Close(t.Context()))
	})
}

// one returns the result of a single publication.
func one(out []broker.Published, err error) (broker.Published, error) {
	if err != nil {
		return broker.Published{}, err
	}
	return out[0], nil
}

// If one part of a message finds no room, no part is kept.
func TestMemoryTakesAllPartsOrNone(t *testing.T) {
	b := memory.New(&memory.Options{Inboxes: 2})
	require.NoError(t, b.Open(t.Context(), nobody{}))
	parts := func(streams ...string) (all []broker.Publication) {
		for _, stream := range streams {
			all = append(all, broker.Publication{Stream: stream, Keep: broker.Retention{Messages: 9}})
		}
		return all
	}
	_, err := b.Publish(t.Context(), parts("room/a", "user/1")...)
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), parts("room/a", "user/1", "user/2", "user/3")...)
	require.ErrorIs(t, err, broker.ErrFull)
	require.Len(t, keptIn(t, b, "room/a").Publications, 1)
	require.Len(t, keptIn(t, b, "user/1").Publications, 1)
	require.Empty(t, keptIn(t, b, "user/2").Publications)
	_, err = b.Publish(t.Context(), parts("room/a", "user/1", "user/2")...)
	require.NoError(t, err)
	require.NoError(t, b.Close(t.Context()))
}
