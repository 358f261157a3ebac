package integration_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// TestCrowd lets 1,000 users join a room within a second, all of whom watch it. Each gets one
// snapshot, and at most ten differences a second. All of it is less than a third of the bytes that a
// notice to each member would take, and about a tenth if it is compressed.
func TestCrowd(t *testing.T) {
	const n = 1000
	o := showing()
	o.Limits.InboundFanout = -1
	bubble(t, o, func(t *testing.T, b *bed) {
		var total, compressed atomic.Int64
		shared := sharedSizes{}
		folds := make([]*fold, n)
		var readers sync.WaitGroup
		defer readers.Wait()
		for i := range n {
			transport, far := realtime.Pipe(realtime.V1)
			defer far.Drop()
			_, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
			require.NoError(t, err)
			f := newFold(t, "hall")
			folds[i] = f
			readers.Go(func() {
				for {
					p, _, err := far.Read(context.Background())
					if err != nil {
						return
					}
					before := f.frames
					if f.add(p); f.frames == before {
						continue
					}
					total.Add(int64(len(p)))
					compressed.Add(shared.of(p))
					_ = far.Write(fmt.Appendf(nil, `{"type":"seen","frames":%d}`, f.frames))
				}
			})
			require.NoError(t, far.Write([]byte(`{"type":"join","id":1,"room":"hall","presence":true}`)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		notices := int64(n) * (n + 1) / 2 * int64(len(`{"message_type":"systemnotification","sender_id":"user500",`+
			`"content":{"type":"room_join","user_id":"user500","room_id":"hall",`+
			`"message":"User joined room hall"},"timestamp":946684800,"room":"hall"}`))
		t.Logf("%d bytes, %.3f of the notices, compressed %.3f", total.Load(),
			float64(total.Load())/float64(notices), float64(compressed.Load())/float64(notices))
		require.Less(t, total.Load(), notices*33/100)
		require.Less(t, compressed.Load(), notices/8)
		for i, f := range folds {
			require.Equal(t, 1, f.snapshots, i)
			require.LessOrEqual(t, f.differences, 11)
			f.same(b.Manager)
		}
	})
}

// sharedSizes are the sizes of payloads if they are compressed, once for all who receive them.
type sharedSizes struct {
	sync.Mutex
	sizes map[string]int64
}

func (s *sharedSizes) of(payload []byte) int64 {
	s.Lock()
	defer s.Unlock()
	size, ok := s.sizes[string(payload)]
	if !ok {
		c := wire.NewCompressor(512, nil, func() {})
		size = int64(c.Smaller(sendqueue.NewFrame(sendqueue.OpText, payload)).Len())
		if s.sizes == nil {
			s.sizes = map[string]int64{}
		}
		s.sizes[string(payload)] = size
	}
	return size
}

// A room that shows how many there are tells each viewer once a second.
func TestCrowdIsCounted(t *testing.T) {
	const n = 200
	bubble(t, realtime.Options{Show: realtime.ShowCount}, func(t *testing.T, b *bed) {
		watcher := b.openV1(realtime.Identity{UserID: "watcher"})
		f := b.watch(watcher, "hall", "")
		require.Equal(t, 1, f.counts)
		for range 5 {
			for i := range n {
				c := b.connsOf("watcher")[0]
				require.NotNil(t, c)
				transport, far := realtime.Pipe(realtime.V1)
				defer far.Drop()
				viewer, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
				require.NoError(t, err)
				_, err = viewer.Join(t.Context(), "hall")
				require.NoError(t, err)
				time.Sleep(time.Second / n)
			}
			f.all(watcher)
			require.NoError(t, watcher.Write(fmt.Appendf(nil, `{"type":"seen","frames":%d}`, f.frames)))
		}
		time.Sleep(2 * time.Second)
		f.all(watcher)
		require.Equal(t, n+1, f.users)
		require.Equal(t, 5*n+1, f.conns)
		require.LessOrEqual(t, f.counts, 8)
		require.GreaterOrEqual(t, f.counts, 5)
	})
}
