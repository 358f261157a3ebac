package bolt_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// silent returns a logger for tests in which errors are expected.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// sampleStore writes a store with every kind of entry, and returns its file and its contents.
func sampleStore(t *testing.T, dir string) (image []byte, want map[string][]string) {
	t.Helper()
	b := open(t, dir, nil)
	want = map[string][]string{}
	for _, stream := range []string{"room/a", "room/b", "user/alice"} {
		for i := range 12 {
			content := fmt.Sprint("content ", i, " of ", stream)
			at := publish(t, b, text(stream, fmt.Sprint("id", i), content)).Position
			require.NoError(t, b.Ack(t.Context(), stream, "phone", at))
			want[stream] = append(want[stream], content)
		}
	}
	require.NoError(t, b.Close(t.Context()))
	image, err := os.ReadFile(filepath.Join(dir, "streams.db"))
	require.NoError(t, err)
	return image, want
}

// values returns all values of the file.
func values(t *testing.T, path string) [][]byte {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	var all [][]byte
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			return bucket.ForEach(func(_, value []byte) error {
				all = append(all, bytes.Clone(value))
				return nil
			})
		})
	}))
	require.NoError(t, db.Close())
	return all
}

// flipped returns the file with one bit of a value flipped in every copy of the value: older pages
// have copies.
func flipped(image, value []byte, bit int) []byte {
	wrong := bytes.Clone(value)
	wrong[bit/8] ^= 1 << (bit % 8)
	return bytes.ReplaceAll(image, value, wrong)
}

// One bit of any value is flipped. Either the damage is detected, or it does not matter.
// Publications that are read are never wrong, streams have no holes, and at most one stream is
// affected.
func TestBitFlips(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "streams.db")
	image, want := sampleStore(t, dir)
	all := values(t, path)
	found := map[string]int{}
	for range flips() {
		value := all[rand.N(len(all))]
		bit := rand.N(8 * len(value))
		require.NoError(t, os.WriteFile(path, flipped(image, value, bit), 0o600))
		var damage []bolt.Damage
		b, err := bolt.Open(path, &bolt.Options{
			Logger: silent(), OnDamage: func(d bolt.Damage) { damage = append(damage, d) },
		})
		if err != nil {
			require.ErrorIs(t, err, bolt.ErrFormat)
			found["version"]++
			continue
		}
		requireConsistent(t, b, want, &damage)
		for _, d := range damage {
			found[d.What]++
		}
		require.NoError(t, b.Close(t.Context()))
	}
	t.Logf("%d flips: %v", flips(), found)
	if flips() >= 200 {
		require.NotZero(t, found["record"])
		require.NotZero(t, found["stream"])
		require.NotZero(t, found["id"])
	}
}

// requireConsistent requires that everything a store returns is right, and that losses are
// reported.
func requireConsistent(t *testing.T, b *bolt.Broker, want map[string][]string, damage *[]bolt.Damage) {
	t.Helper()
	hurt := 0
	for stream, contentsOf := range want {
		page := read(t, b, stream)
		got := contents(page)
		if !slices.Equal(contentsOf, got) {
			hurt++
			require.NotEmpty(t, *damage, "OnDamage was not called")
			require.Equal(t, contentsOf[len(contentsOf)-len(got):], append([]string{}, got...), "the newest without a gap")
			if page.Top.Epoch != "" {
				require.Equal(t, page.Floor, uint64(len(contentsOf)-len(got)))
				require.Equal(t, broker.ReasonEpoch, page.Why)
			}
		}
		cursor, err := b.Cursor(t.Context(), stream, "phone")
		require.NoError(t, err)
		require.LessOrEqual(t, cursor.Offset, uint64(len(contentsOf)), "no cursor is after the end")
		for i, content := range contentsOf {
			out := publish(t, b, text(stream, fmt.Sprint("id", i), content))
			if out.Duplicate {
				require.Equal(t, uint64(i+1), out.Position.Offset)
			} else {
				require.NotEmpty(t, *damage)
			}
		}
	}
	require.LessOrEqual(t, hurt, 1, "others suffer")
}

// A missing record counts as damaged.
func TestMissingRecord(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, missing := range []int{0, 5, 11} {
			dir := t.TempDir()
			_, want := sampleStore(t, dir)
			db, err := bbolt.Open(filepath.Join(dir, "streams.db"), 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte("records")).Cursor()
				key, _ := c.First() // of the stream that was made first
				for range missing {
					key, _ = c.Next()
				}
				return tx.Bucket([]byte("records")).Delete(key)
			}))
			require.NoError(t, db.Close())
			b := open(t, dir, &bolt.Options{Logger: silent()})
			page, err := b.Read(t.Context(), "room/a", broker.Query{Backwards: back})
			require.NoError(t, err)
			require.Equal(t, uint64(missing+1), page.Floor)
			require.Equal(t, broker.ReasonEpoch, page.Why)
			got := contents(page)
			if back {
				slices.Reverse(got)
			}
			require.Equal(t, want["room/a"][missing+1:], append([]string{}, got...))
			require.EqualValues(t, 1, b.Stats().Damaged)
			require.Equal(t, want["room/b"], contents(read(t, b, "room/b")))
			require.NoError(t, b.Close(t.Context()))
		}
	}
}

// A store with a broken structure is refused or returns errors. The process keeps running.
func TestBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "streams.db")
	image, _ := sampleStore(t, dir)
	for round := range 100 {
		broken := bytes.Clone(image)
		switch round % 3 {
		case 0: // truncated
			broken = broken[:1+rand.N(len(broken)-1)]
		case 1: // a page of other data
			page := 2 + rand.N(20)
			copy(broken[page*4096:], make([]byte, 4096))
		case 2: // a bit anywhere in the used part
			broken[rand.N(20*4096)] ^= 1 << rand.N(8)
		}
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		b, err := bolt.Open(path, &bolt.Options{Logger: silent()})
		if err != nil {
			continue
		}
		for range 3 {
			_, _ = b.Publish(t.Context(), text("room/a", "", "x"))
			_, _ = b.Read(t.Context(), "room/a", broker.Query{})
			_, _ = b.Read(t.Context(), "room/b", broker.Query{Backwards: true})
		}
		_ = b.Close(t.Context())
	}
}
