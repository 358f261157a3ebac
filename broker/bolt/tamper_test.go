package bolt

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// tampered returns a store with three publications in room/a to which change was then applied.
func tampered(t *testing.T, change func(tx *bbolt.Tx, st *state)) (b *Broker, was broker.Position) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "streams.db")
	b, err := Open(path, nil)
	require.NoError(t, err)
	for n := range 3 {
		out, err := one(b.Publish(t.Context(), counting("room/a", n, 10)))
		require.NoError(t, err)
		was = out.Position
	}
	st := stateOf(t, b, "room/a")
	require.NoError(t, b.Close(t.Context()))
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		change(tx, &st)
		return nil
	}))
	require.NoError(t, db.Close())
	b, err = Open(path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return b, was
}

// A stream whose name is damaged begins anew, and old positions are refused.
func TestNameIsDamaged(t *testing.T) {
	b, was := tampered(t, func(tx *bbolt.Tx, st *state) {
		streams := tx.Bucket([]byte(bucketStreams))
		require.NoError(t, streams.Put([]byte("room/b"), st.value([]byte("room/a"))))
		require.NoError(t, streams.Delete([]byte("room/a")))
	})
	at, err := b.Subscribe(t.Context(), "room/a")
	require.NoError(t, err)
	require.Zero(t, at.Offset)
	require.NotEqual(t, was.Epoch, at.Epoch)
	require.NotZero(t, b.Stats().Damaged)
}

// The number of the newest stream is damaged: bbolt keeps it without a checksum.
func TestSequenceIsDamaged(t *testing.T) {
	b, was := tampered(t, func(tx *bbolt.Tx, _ *state) {
		require.NoError(t, tx.Bucket([]byte(bucketStreams)).SetSequence(0))
	})
	_, err := b.Publish(t.Context(), counting("room/b", 7, 10))
	require.NoError(t, err)
	page, err := b.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	require.Len(t, page.Publications, 3)
	require.Equal(t, was, page.Top)
	requireWhole(t, b)
}

// A record has an offset far in the future, and another one is missing.
func TestOffsetIsDamaged(t *testing.T) {
	b, was := tampered(t, func(tx *bbolt.Tx, st *state) {
		records := tx.Bucket([]byte(bucketRecords))
		value := records.Get(offsetKey(st.number, 3))
		require.NoError(t, records.Put(offsetKey(st.number, 3|1<<40), append([]byte{}, value...)))
		require.NoError(t, records.Delete(offsetKey(st.number, 3)))
	})
	for n := 3; n < 6; n++ {
		out, err := one(b.Publish(t.Context(), counting("room/a", n, 1))) // the others are discarded
		require.NoError(t, err)
		require.Equal(t, was.Offset+1, out.Position.Offset)
		was = out.Position
	}
	page, err := b.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	require.Len(t, page.Publications, 1)
	require.EqualValues(t, 1, stateOf(t, b, "room/a").count)
}
