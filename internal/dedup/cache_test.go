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

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// once is receipts.once of what has no answer.
func once(ctx context.Context, rs *Receipts, key ReceiptKey, send func() error) error {
	_, err := rs.Once(ctx, key, func() (json.RawMessage, error) { return nil, send() })
	return err
}

// idOf is the key of a message of a user's.
func idOf(user, id string) ReceiptKey { return ReceiptKey{Sender{User: user}, id} }

// receiptBubble runs a test in a bubble, with receipts that have so much memory.
func receiptBubble(t *testing.T, memory int64, test func(t *testing.T, rs *Receipts)) {
	synctest.Test(t, func(t *testing.T) {
		var work sync.WaitGroup
		wheel := timerwheel.New(work.Go)
		rs := NewReceipts(&sendqueue.Budget{Limit: 8 * memory, Alarm: func() {}}, wheel)
		test(t, rs)
		wheel.Close()
		work.Wait()
	})
}

func TestReceipts(t *testing.T) {
	receiptBubble(t, 1<<20, func(t *testing.T, rs *Receipts) {
		runs := 0
		send := func(user, id string, err error) error {
			return once(t.Context(), rs, idOf(user, id), func() error {
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
		require.NoError(t, send("alice", "3", nil), "what has failed may be tried again")
		require.NoError(t, send("alice", "3", errors.New("not run")))
		require.Equal(t, 5, runs)

		time.Sleep(receiptTime - time.Second)
		require.NoError(t, send("alice", "1", nil))
		require.Equal(t, 5, runs)
		time.Sleep(time.Second)
		require.NoError(t, send("alice", "1", nil))
		require.Equal(t, 6, runs, "it is known for two minutes")
	})
}

// A repeat that comes while the first is under way waits for it, and is tried if that fails: it
// may have failed because its connection ended.
func TestReceiptOfWhatIsUnderWay(t *testing.T) {
	receiptBubble(t, 1<<20, func(t *testing.T, rs *Receipts) {
		for i, end := range []func() error{
			func() error { return nil },
			func() error { return errors.New("no") },
			func() error { runtime.Goexit(); return nil },
		} {
			key := idOf("alice", fmt.Sprint(i))
			go func() {
				_ = once(t.Context(), rs, key, func() error {
					time.Sleep(time.Second)
					return end()
				})
			}()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			runs := 0
			again := func() error { runs++; return nil }
			require.ErrorIs(t, once(ctx, rs, key, again), context.DeadlineExceeded)
			began := time.Now()
			require.NoError(t, once(t.Context(), rs, key, again))
			require.Equal(t, time.Second-time.Millisecond, time.Since(began))
			require.Equal(t, min(i, 1), runs)
		}
	})
}

// What others send, whatever becomes of it, does not make it forget, nor fill another's window; and
// what is under way is not forgotten either.
func TestReceiptsOfOthers(t *testing.T) {
	receiptBubble(t, 1<<20, func(t *testing.T, rs *Receipts) {
		stop, ok := make(chan struct{}), func() error { return nil }
		never := func() error { panic("it was sent") }
		require.NoError(t, once(t.Context(), rs, idOf("bob", "1"), ok))
		done := make(chan error)
		go func() {
			done <- once(t.Context(), rs, idOf("slow", "1"), func() error {
				<-stop
				return nil
			})
		}()
		synctest.Wait()
		flood := func(user string) (n int) {
			for {
				require.Error(t, once(t.Context(), rs, idOf(user, "no"), func() error { return errors.New("no") }))
				if err := once(t.Context(), rs, idOf(user, fmt.Sprint(n)), ok); err != nil {
					require.ErrorIs(t, err, ErrReceipts, "a sender that goes on is refused")
					return n
				}
				n++
			}
		}
		require.InDelta(t, 1<<19/receiptBytes, flood("mallory"), 10, "at half of the memory")
		require.NoError(t, once(t.Context(), rs, idOf("mallory", "1"), never), "which forgets nothing")
		for i := range 20 { // together they take all, and each may have some nevertheless
			require.GreaterOrEqual(t, flood(fmt.Sprint("mallory", i)), freeReceipts)
		}
		require.InDelta(t, 2<<20, rs.used.Load(), 20*freeReceipts*receiptBytes)
		require.NoError(t, once(t.Context(), rs, idOf("bob", "1"), never))
		require.NoError(t, once(t.Context(), rs, idOf("bob", "2"), ok))
		require.NoError(t, once(t.Context(), rs, idOf("carol", "1"), ok))

		time.Sleep(receiptTime)
		close(stop)
		require.NoError(t, <-done)
		require.NoError(t, once(t.Context(), rs, idOf("slow", "1"), never))
	})
}

// However many senders somebody makes up, they take a bounded part of the memory, and what has been
// sent is known all the same.
func TestReceiptsOfManySenders(t *testing.T) {
	receiptBubble(t, 1<<18, func(t *testing.T, rs *Receipts) {
		ok := func() error { return nil }
		refused := 0
		for i := range 10_000 {
			by := ReceiptKey{Sender{Guest: fmt.Sprint(i)}, "1"}
			if err := once(t.Context(), rs, by, ok); err != nil {
				require.ErrorIs(t, err, ErrReceipts)
				refused++
			}
		}
		require.Positive(t, refused)
		require.InDelta(t, 4<<18, rs.used.Load(), 1<<10)
		require.NoError(t, once(t.Context(), rs, ReceiptKey{Sender{Guest: "0"}, "1"}, func() error {
			panic("it was sent")
		}))
		time.Sleep(2 * receiptTime)
		synctest.Wait()
		require.Zero(t, rs.budget.Total())
		require.NoError(t, once(t.Context(), rs, idOf("bob", "1"), ok))
	})
}

// What is old is forgotten, also if nobody sends any more, and takes nothing of the budget.
func TestReceiptsAreForgotten(t *testing.T) {
	receiptBubble(t, 1<<20, func(t *testing.T, rs *Receipts) {
		for i := range 1000 {
			key := idOf(fmt.Sprint("user", i%100), fmt.Sprint(i))
			_, err := rs.Once(t.Context(), key, func() (json.RawMessage, error) { return json.RawMessage("{}"), nil })
			require.NoError(t, err)
			require.Error(t, once(t.Context(), rs, idOf("clumsy", "1"), func() error { return errors.New("no") }))
		}
		require.Greater(t, rs.budget.Total(), int64(1000*receiptBytes))
		time.Sleep(2 * receiptTime)
		synctest.Wait()
		require.Zero(t, rs.budget.Total())
		require.Zero(t, rs.used.Load())
		for i := range rs.shards {
			require.Nil(t, rs.shards[i].windows)
		}
		require.False(t, rs.armed.Load())
	})
}

// A sender that has sent much, and goes on with little, does not keep the memory of its peak, of
// which the budget knows nothing.
func TestReceiptsOfAPeakAreGivenBack(t *testing.T) {
	receiptBubble(t, 4<<20, func(t *testing.T, rs *Receipts) {
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
				require.NoError(t, once(t.Context(), rs, idOf(fmt.Sprint(peak), fmt.Sprint(i)), ok))
			}
			for minute := range 4 {
				time.Sleep(time.Minute)
				for user := range peak + 1 {
					require.NoError(t, once(t.Context(), rs, idOf(fmt.Sprint(user), fmt.Sprint("then ", minute)), ok))
				}
			}
		}
		require.Less(t, rs.budget.Total(), int64(20<<10))
		require.Less(t, heap()-before, int64(1<<20))
		runtime.KeepAlive(rs)
	})
}
