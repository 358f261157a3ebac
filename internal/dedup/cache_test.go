package dedup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// do calls Cache.Do with a send that has no answer.
func do(ctx context.Context, c *Cache, key Key, send func() error) error {
	_, err := c.Do(ctx, key, func() (json.RawMessage, error) { return nil, send() })
	return err
}

// userKey returns the key of a user's message.
func userKey(user, id string) Key { return Key{broker.Sender{User: user}, id} }

// withCache runs test in a synctest bubble, with a cache that may use memory bytes.
func withCache(t *testing.T, memory int64, test func(t *testing.T, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		var work sync.WaitGroup
		wheel := timerwheel.New(work.Go)
		c := New(&sendqueue.Budget{Limit: 8 * memory, Alarm: func() {}}, wheel)
		test(t, c)
		wheel.Close()
		work.Wait()
	})
}

func TestCacheDo(t *testing.T) {
	withCache(t, 1<<20, func(t *testing.T, c *Cache) {
		runs := 0
		send := func(user, id string, err error) error {
			return do(t.Context(), c, userKey(user, id), func() error {
				runs++
				return err
			})
		}
		require.NoError(t, send("alice", "1", nil))
		require.NoError(t, send("alice", "1", errors.New("not run")))
		require.Equal(t, 1, runs)
		require.NoError(t, send("bob", "1", nil))
		require.NoError(t, send("alice", "2", nil))
		require.Equal(t, 3, runs)

		require.Error(t, send("alice", "3", errors.New("no")))
		require.NoError(t, send("alice", "3", nil), "a failed message may be sent again")
		require.NoError(t, send("alice", "3", errors.New("not run")))
		require.Equal(t, 5, runs)

		time.Sleep(lifetime - time.Second)
		require.NoError(t, send("alice", "1", nil))
		require.Equal(t, 5, runs)
		time.Sleep(time.Second)
		require.NoError(t, send("alice", "1", nil))
		require.Equal(t, 6, runs, "an entry expires after two minutes")
	})
}

// A repeat waits while the first message is being sent. If that fails, the repeat is sent.
func TestCacheRepeatWaitsForTheFirst(t *testing.T) {
	withCache(t, 1<<20, func(t *testing.T, c *Cache) {
		for i, end := range []func() error{
			func() error { return nil },
			func() error { return errors.New("no") },
			func() error { runtime.Goexit(); return nil },
		} {
			key := userKey("alice", fmt.Sprint(i))
			go func() {
				_ = do(t.Context(), c, key, func() error {
					time.Sleep(time.Second)
					return end()
				})
			}()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			runs := 0
			again := func() error { runs++; return nil }
			require.ErrorIs(t, do(ctx, c, key, again), context.DeadlineExceeded)
			began := time.Now()
			require.NoError(t, do(t.Context(), c, key, again))
			require.Equal(t, time.Second-time.Millisecond, time.Since(began))
			require.Equal(t, min(i, 1), runs)
		}
	})
}

// Messages of other senders, sent or failed, neither remove entries of a sender nor fill its
// window. A message that is being sent is not removed.
func TestCacheIsolatesSenders(t *testing.T) {
	withCache(t, 1<<20, func(t *testing.T, c *Cache) {
		stop, ok := make(chan struct{}), func() error { return nil }
		failing := func() error { return errors.New("no") }
		never := func() error { panic("it was sent") }
		require.NoError(t, do(t.Context(), c, userKey("bob", "1"), ok))
		done := make(chan error)
		go func() {
			done <- do(t.Context(), c, userKey("slow", "1"), func() error {
				<-stop
				return nil
			})
		}()
		synctest.Wait()
		flood := func(user string) (n int) {
			for {
				require.Error(t, do(t.Context(), c, userKey(user, "no"), failing))
				if err := do(t.Context(), c, userKey(user, fmt.Sprint(n)), ok); err != nil {
					require.ErrorIs(t, err, ErrFull, "a full window refuses messages")
					return n
				}
				n++
			}
		}
		require.InDelta(t, 1<<19/entryBytes, flood("mallory"), 10, "half of the memory")
		time.Sleep(lifetime / 3)
		var full *FullError
		require.ErrorAs(t, do(t.Context(), c, userKey("mallory", "more"), never), &full)
		require.Equal(t, lifetime-lifetime/3, full.Wait, "until the oldest expires")
		require.NoError(t, do(t.Context(), c, userKey("mallory", "1"), never), "no entry is removed")
		for i := range 20 { // together they use all memory, and each has freeEntries
			require.GreaterOrEqual(t, flood(fmt.Sprint("mallory", i)), freeEntries)
		}
		require.InDelta(t, 2<<20, c.used.Load(), 20*freeEntries*entryBytes)
		require.NoError(t, do(t.Context(), c, userKey("bob", "1"), never))
		require.NoError(t, do(t.Context(), c, userKey("bob", "2"), ok))
		require.NoError(t, do(t.Context(), c, userKey("carol", "1"), ok))

		time.Sleep(lifetime)
		close(stop)
		require.NoError(t, <-done)
		require.NoError(t, do(t.Context(), c, userKey("slow", "1"), never))
	})
}

// Any number of invented senders uses a bounded amount of memory, and does not remove entries.
func TestCacheOfManySenders(t *testing.T) {
	withCache(t, 1<<18, func(t *testing.T, c *Cache) {
		ok := func() error { return nil }
		refused := 0
		for i := range 10_000 {
			key := Key{broker.Sender{Guest: fmt.Sprint(i)}, "1"}
			if err := do(t.Context(), c, key, ok); err != nil {
				require.ErrorIs(t, err, ErrFull)
				refused++
			}
		}
		require.Positive(t, refused)
		require.InDelta(t, 4<<18, c.used.Load(), 1<<10)
		require.NoError(t, do(t.Context(), c, Key{broker.Sender{Guest: "0"}, "1"}, func() error {
			panic("it was sent")
		}))
		time.Sleep(2 * lifetime)
		synctest.Wait()
		require.Zero(t, c.budget.Total())
		require.NoError(t, do(t.Context(), c, userKey("bob", "1"), ok))
	})
}

// Entries expire even if no message follows, and release their part of the budget.
func TestCacheExpires(t *testing.T) {
	withCache(t, 1<<20, func(t *testing.T, c *Cache) {
		for i := range 1000 {
			key := userKey(fmt.Sprint("user", i%100), fmt.Sprint(i))
			_, err := c.Do(t.Context(), key, func() (json.RawMessage, error) {
				return json.RawMessage("{}"), nil
			})
			require.NoError(t, err)
			failing := func() error { return errors.New("no") }
			require.Error(t, do(t.Context(), c, userKey("clumsy", "1"), failing))
		}
		require.Greater(t, c.budget.Total(), int64(1000*entryBytes))
		time.Sleep(2 * lifetime)
		synctest.Wait()
		require.Zero(t, c.budget.Total())
		require.Zero(t, c.used.Load())
		for i := range c.shards {
			require.Nil(t, c.shards[i].windows)
		}
		require.False(t, c.armed.Load())
	})
}

// A sender that slows down after a peak does not keep the memory of the peak. The budget does not
// count that memory.
func TestCacheReleasesThePeak(t *testing.T) {
	withCache(t, 4<<20, func(t *testing.T, c *Cache) {
		ok := func() error { return nil }
		heap := func() int64 {
			var s runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&s)
			return int64(s.HeapAlloc)
		}
		before := heap()
		for peak := range 10 {
			for i := range 20_000 {
				require.NoError(t, do(t.Context(), c, userKey(fmt.Sprint(peak), fmt.Sprint(i)), ok))
			}
			for minute := range 4 {
				time.Sleep(time.Minute)
				for user := range peak + 1 {
					key := userKey(fmt.Sprint(user), fmt.Sprint("then ", minute))
					require.NoError(t, do(t.Context(), c, key, ok))
				}
			}
		}
		require.Less(t, c.budget.Total(), int64(20<<10))
		require.Less(t, heap()-before, int64(1<<20))
		runtime.KeepAlive(c)
	})
}
