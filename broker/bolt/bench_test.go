package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

const benchPublishers = 64

// BenchmarkPublish publishes durably from 64 publishers, and then writes the same amount with bbolt
// alone, in transactions of the same size. x-bbolt is the ratio of the times.
func BenchmarkPublish(b *testing.B) {
	for name, streams := range map[string]int{"one": 1, "many": 100} {
		b.Run(name, func(b *testing.B) {
			var n atomic.Int64
			store, err := bolt.Open(filepath.Join(b.TempDir(), "streams.db"), nil)
			require.NoError(b, err)
			b.SetParallelism((benchPublishers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					p := text("room/"+string(rune('a'+i%int64(streams))), "", strings.Repeat("x", 200))
					p.Keep.Messages = 10_000
					if _, err := store.Publish(context.Background(), p); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			ours := b.Elapsed()
			stats := store.Stats()
			batch := max(1, int(stats.Published/max(1, stats.Commits)))
			require.NoError(b, store.Close(context.Background()))
			alone := bboltAlone(b, b.N, batch, streams)
			b.ReportMetric(float64(ours)/float64(alone), "x-bbolt")
			b.ReportMetric(float64(batch), "batch")
		})
	}
}

// bboltAlone writes n values of the size of a record under as many prefixes as there are streams,
// and returns how long it takes.
func bboltAlone(b *testing.B, n, batch, streams int) time.Duration {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "alone.db"), 0o600, nil)
	require.NoError(b, err)
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("records"))
		return err
	}))
	value := bytes.Repeat([]byte("x"), 450)
	begin := time.Now()
	for i := 0; i < n; i += batch {
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte("records"))
			for k := i; k < min(n, i+batch); k++ {
				key := binary.BigEndian.AppendUint64(nil, uint64(k%streams))
				key = binary.BigEndian.AppendUint64(key, uint64(k))
				if err := bucket.Put(key, value); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	took := time.Since(begin)
	require.NoError(b, db.Close())
	return took
}

// BenchmarkRead reads a page of a hundred publications.
func BenchmarkRead(b *testing.B) {
	store, err := bolt.Open(filepath.Join(b.TempDir(), "streams.db"), &bolt.Options{LossWindow: -1})
	require.NoError(b, err)
	for range 1000 {
		p := text("room/a", "", strings.Repeat("x", 200))
		p.Keep.Messages = 1000
		_, err := store.Publish(b.Context(), p)
		require.NoError(b, err)
	}
	for b.Loop() {
		page, err := store.Read(b.Context(), "room/a", broker.Query{After: 500, Limit: 100, Bytes: 1 << 20})
		require.NoError(b, err)
		require.Len(b, page.Publications, 100)
	}
	require.NoError(b, store.Close(context.Background()))
}
