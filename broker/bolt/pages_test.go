package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"
)

// fileOf returns the used part of a store's file.
func fileOf(t testing.TB, streams, each int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "streams.db")
	b, err := Open(path, &Options{LossWindow: -1})
	require.NoError(t, err)
	for i := range streams * each {
		_, err := b.Publish(t.Context(), counting(fmt.Sprint("room/", i%streams), i, each))
		require.NoError(t, err)
	}
	require.NoError(t, b.Close(t.Context()))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	p, ok := readPages(bytes.NewReader(file))
	require.True(t, ok)
	return file[:p.high*uint64(p.size)]
}

// Every intact file passes the check, both a store and another file of bbolt.
func TestPagesAreWhole(t *testing.T) {
	for _, n := range []int{1, 3, 40} {
		for _, each := range []int{1, 30} {
			p, ok := readPages(bytes.NewReader(fileOf(t, n, each)))
			require.True(t, ok)
			require.True(t, p.check(), "%d streams of %d", n, each)
			require.False(t, p.metaLost)
		}
	}
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1 << 13})
	require.NoError(t, err)
	for i := range 100 { // pages are allocated and freed, also overflow pages
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			if i%3 == 2 {
				require.NoError(t, b.Delete(binary.BigEndian.AppendUint64(nil, uint64(i-2))))
			}
			return b.Put(binary.BigEndian.AppendUint64(nil, uint64(i)), make([]byte, i*i*3))
		}))
	}
	require.NoError(t, db.Close())
	file, err := os.Open(path)
	require.NoError(t, err)
	p, ok := readPages(file)
	require.True(t, ok)
	require.True(t, p.check())
	require.NoError(t, file.Close())
}

// If a meta page is damaged, it may have been the only one with the last transaction.
func TestMetaIsLost(t *testing.T) {
	for page := range 2 {
		file := fileOf(t, 3, 5)
		file[os.Getpagesize()*page+pageHead+50] ^= 4
		path := filepath.Join(t.TempDir(), "streams.db")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		var told []Damage
		b, err := Open(path, &Options{OnDamage: func(d Damage) { told = append(told, d) }})
		require.NoError(t, err)
		require.Equal(t, []Damage{{What: "meta"}}, told)
		require.NotZero(t, b.era.Load(), "the last positions may be lost")
		require.NoError(t, b.Close(t.Context()))
	}
}

// The check reads each page at most once, whatever the pages contain.
func FuzzPages(f *testing.F) {
	image := fileOf(f, 20, 20)
	f.Add(uint32(2*4096+8), []byte{1})
	f.Add(uint32(3*4096+10), []byte{0, 1})
	f.Add(uint32(4*4096+16), []byte{0xff, 0xff, 0xff, 0xff, 9, 9})
	f.Add(uint32(16), []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, at uint32, over []byte) {
		file := bytes.Clone(image)
		copy(file[int(at)%len(file):], over)
		p, ok := readPages(bytes.NewReader(file))
		if !ok || p.check() {
			return
		}
		s := newSalvage(p)
		_ = s.checkFormat()
		for _, id := range s.orphans {
			for _, e := range loose(s.raw(id), sealed) {
				require.NotEmpty(t, e.key)
			}
		}
	})
}
