package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// once is receipts.once of what has no answer.
func once(ctx context.Context, rs *receipts, key receiptKey, send func() error) error {
	_, err := rs.once(ctx, key, func() (json.RawMessage, error) { return nil, send() })
	return err
}

func TestReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newReceipts()
		runs := 0
		send := func(user, id string, err error) error {
			return once(t.Context(), rs, receiptKey{user, id}, func() error {
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
	synctest.Test(t, func(t *testing.T) {
		for i, end := range []func() error{
			func() error { return nil },
			func() error { return errors.New("no") },
			func() error { runtime.Goexit(); return nil },
		} {
			rs, key := newReceipts(), receiptKey{"alice", "1"}
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

// Others' messages that fail, and one that takes for ever, do not make it forget.
func TestReceiptsAreNotPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, stop := newReceipts(), make(chan struct{})
		ok := func() error { return nil }
		never := func() error { panic("it was sent") }
		require.NoError(t, once(t.Context(), rs, receiptKey{"bob", "1"}, ok))
		for i := range 2 * receiptShards * maxReceipts {
			require.Error(t, once(t.Context(), rs, receiptKey{"mallory", fmt.Sprint(i)}, func() error { return errors.New("no") }))
		}
		require.NoError(t, once(t.Context(), rs, receiptKey{"bob", "1"}, never))
		done := make(chan error)
		go func() {
			done <- once(t.Context(), rs, receiptKey{"slow", "1"}, func() error {
				<-stop
				return nil
			})
		}()
		synctest.Wait()
		for i := range 2 * receiptShards * maxReceipts {
			require.NoError(t, once(t.Context(), rs, receiptKey{"alice", fmt.Sprint(i)}, ok))
		}
		close(stop)
		require.NoError(t, <-done)
		require.NoError(t, once(t.Context(), rs, receiptKey{"slow", "1"}, never))
	})
}

func TestReceiptsAreBounded(t *testing.T) {
	rs := newReceipts()
	for i := range 3 * receiptShards * maxReceipts {
		key := receiptKey{"alice", fmt.Sprint(i)}
		require.NoError(t, once(t.Context(), rs, key, func() error { return nil }))
	}
	for i := range rs.shards {
		require.LessOrEqual(t, len(rs.shards[i].known), maxReceipts)
		require.Len(t, rs.shards[i].known, rs.shards[i].order.Len())
	}
}
