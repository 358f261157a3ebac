package sendqueue

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRepliesWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alarms := 0
		r := &Replies{Limit: 100, Alarm: func() { alarms++ }}
		require.NoError(t, r.Reserve(t.Context(), 60))
		var mu sync.Mutex
		var order []string
		ask := func(ctx context.Context, name string, bytes int64) {
			go func() {
				if err := r.Reserve(ctx, bytes); err != nil {
					name += " gave up"
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ask(t.Context(), "large", 90)
		ask(ctx, "impatient", 10)
		ask(t.Context(), "small", 10)
		require.Empty(t, order, "a small reply does not overtake a large one")
		require.Equal(t, 3, alarms)
		require.True(t, r.Short())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"impatient gave up"}, order)
		r.Release(60)
		synctest.Wait()
		require.ElementsMatch(t, []string{"impatient gave up", "large", "small"}, order)
		require.False(t, r.Short())
		r.Release(90)
		r.Release(10)

		require.NoError(t, r.Reserve(t.Context(), 1000), "a single reply may exceed the limit")
		ask(t.Context(), "next", 1)
		require.True(t, r.Short())
		r.Release(1000)
		synctest.Wait()
		require.False(t, r.Short())
		r.Release(1)
		require.Zero(t, r.used)

		// A waiter that is cancelled after its bytes were counted releases them.
		require.NoError(t, r.Reserve(t.Context(), 100))
		late := &waiter{10, make(chan struct{})}
		r.waiting = append(r.waiting, late)
		r.Release(100)
		require.EqualValues(t, 10, r.used)
		r.cancel(late)
		require.Zero(t, r.used)
	})
}

// If a waiter is cancelled, the ones after it need not wait for its room.
func TestRepliesAfterACancelledWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Replies{Limit: 100, Alarm: func() {}}
		require.NoError(t, r.Reserve(t.Context(), 60))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = r.Reserve(ctx, 90) }()
		synctest.Wait()
		served := false
		go func() { served = r.Reserve(t.Context(), 10) == nil }()
		synctest.Wait()
		require.False(t, served)
		cancel()
		synctest.Wait()
		require.True(t, served)
		require.False(t, r.Short())
		require.EqualValues(t, 70, r.used)
	})
}

// A reply counts from the push until the wire has accepted it, or the queue ends.
func TestRepliesOfAQueueCount(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"read":   func(r *rig) { r.wire.stall(false) },
		"killed": func(r *rig) { r.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{})
				r.wire.stall(true)
				r.Start()
				for _, size := range []int{1000, 10, 2000} {
					r.Push(NewFrame(OpText, make([]byte, size)), Reply, Disconnect)
					synctest.Wait()
				}
				totals := &r.totals
				require.InDelta(t, 3000, totals.Replies.used, 10, "small replies do not count")
				require.InDelta(t, 3010, r.Unread(), 15, "a reply being written counts as unread")
				end(r)
				synctest.Wait()
				require.Zero(t, totals.Replies.used)
				require.Zero(t, r.Unread())
				r.Kill()
			})
		})
	}
}
