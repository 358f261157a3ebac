package realtime

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newReceipts()
		runs := 0
		send := func(user, id string, err error) error {
			return rs.once(t.Context(), receiptKey{user, id}, func() error {
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

// A repeat that comes while the first is under way waits for its result.
func TestReceiptOfWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, key := newReceipts(), receiptKey{"alice", "1"}
		failure := errors.New("no")
		go func() {
			_ = rs.once(t.Context(), key, func() error {
				time.Sleep(time.Second)
				return failure
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		never := func() error { panic("it runs already") }
		require.ErrorIs(t, rs.once(ctx, key, never), context.DeadlineExceeded)
		require.Equal(t, failure, rs.once(t.Context(), key, never))

		go func() {
			_ = rs.once(t.Context(), key, func() error {
				time.Sleep(time.Second)
				runtime.Goexit()
				return nil
			})
		}()
		synctest.Wait()
		require.Equal(t, errUnfinished, rs.once(t.Context(), key, never))
		require.NoError(t, rs.once(t.Context(), key, func() error { return nil }))
	})
}

func TestReceiptsAreBounded(t *testing.T) {
	rs := newReceipts()
	for i := range 3 * receiptShards * maxReceipts {
		key := receiptKey{"alice", fmt.Sprint(i)}
		require.NoError(t, rs.once(t.Context(), key, func() error { return nil }))
	}
	for i := range rs.shards {
		require.LessOrEqual(t, len(rs.shards[i].known), maxReceipts)
		require.LessOrEqual(t, cap(rs.shards[i].order), 4*maxReceipts)
	}
}
