package bolt_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, nil)
	_, err := bolt.Open(filepath.Join(dir, "streams.db"), nil)
	require.ErrorIs(t, err, bolt.ErrLocked)
	require.NoError(t, b.Close(t.Context()))
	require.NoError(t, open(t, dir, nil).Close(t.Context()))
}

func TestNotAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("no store "), 4096), 0o600))
	_, err := bolt.Open(path, nil)
	require.ErrorIs(t, err, bolt.ErrFormat)

	require.NoError(t, os.Remove(path))
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	}))
	require.NoError(t, db.Close())
	_, err = bolt.Open(path, nil)
	require.ErrorIs(t, err, bolt.ErrFormat)

	_, err = bolt.Open(filepath.Join(t.TempDir(), "none", "x.db"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOtherFormats(t *testing.T) {
	for version, why := range map[string]string{
		"3":         "it has format 3; the newest that this package knows is 2",
		"4294":      "it has format 4294; the newest that this package knows is 2",
		"0":         `its format is "0", not a number`,
		"":          `its format is "", not a number`,
		"x\x00\xff": "not a number",
	} {
		dir := t.TempDir()
		require.NoError(t, open(t, dir, nil).Close(t.Context()))
		path := filepath.Join(dir, "streams.db")
		db, err := bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("realtime")).Put([]byte("version"), []byte(version))
		}))
		require.NoError(t, db.Close())
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = bolt.Open(path, nil)
		require.ErrorIs(t, err, bolt.ErrFormat)
		require.ErrorContains(t, err, why)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after, "the file is not changed")
	}
}

// unpack writes a file of testdata into a new directory.
func unpack(t *testing.T, name string) (dir string) {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	require.NoError(t, err)
	data, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "streams.db"), data, 0o600))
	return dir
}

// The file was written when format 1 was the newest.
func TestFirstFormat(t *testing.T) {
	dir := unpack(t, "format1.db.gz")
	for range 2 {
		b := open(t, dir, nil)
		page := read(t, b, "room/hall")
		require.Equal(t, broker.Position{Epoch: "29nm81l1hw773", Offset: 12}, page.Top)
		require.EqualValues(t, 2, page.Floor)
		require.Equal(t, broker.ReasonOverflow, page.Why)
		require.Len(t, page.Publications, 10)
		for i, p := range page.Publications {
			n := i + 3
			require.Equal(t, broker.Message{
				Type: "chat", Sender: "alice", ID: fmt.Sprint("id", n),
				Time:    time.Unix(1_700_000_000+int64(n), 0).UTC(),
				Content: fmt.Appendf(nil, "%q", fmt.Sprint("content ", n)),
			}, p.Message)
			require.EqualValues(t, n, p.Position.Offset)
		}
		require.True(t, publish(t, b, text("room/hall", "id12", "again")).Duplicate)

		page = read(t, b, "user/alice")
		require.Equal(t, broker.Position{Epoch: "3vyxl5nshly8h", Offset: 3}, page.Top)
		require.Equal(t, []byte{0, 0xff, 3}, page.Publications[2].Message.Binary)
		require.Equal(t, broker.Target{Users: []string{"alice"}, ExceptConns: []string{"c1"}}, page.Publications[0].Target)
		at, err := b.Cursor(t.Context(), "user/alice", "phone")
		require.NoError(t, err)
		require.EqualValues(t, 2, at.Offset)

		at, err = b.Subscribe(t.Context(), "room/empty")
		require.NoError(t, err)
		require.Equal(t, broker.Position{Epoch: "3p0qo4kmr8brz"}, at, "format 1 kept this stream")
		require.Zero(t, b.Stats().Damaged)
		require.NoError(t, b.Close(t.Context()))
	}
	b := open(t, dir, nil)
	p := text("room/hall", "id13", "content 13")
	p.Keep.Messages = 10
	require.EqualValues(t, 13, publish(t, b, p).Position.Offset)
	require.EqualValues(t, 3, read(t, b, "room/hall").Floor)
	require.NoError(t, b.Close(t.Context()))
}

func TestNewEpochs(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, nil)
	was := publish(t, b, text("room/a", "1", "x")).Position
	require.NoError(t, b.Close(t.Context()))
	b = open(t, dir, &bolt.Options{NewEpochs: true})
	page := read(t, b, "room/a")
	require.NotEqual(t, was.Epoch, page.Top.Epoch)
	require.Equal(t, was.Offset, page.Top.Offset)
	require.Equal(t, []string{"x"}, contents(page), "publications are kept")
	require.ErrorIs(t, b.Ack(t.Context(), "room/a", "r", was), broker.ErrInvalidPosition)
	require.True(t, publish(t, b, text("room/a", "1", "x")).Duplicate)
	require.NoError(t, b.Close(t.Context()))
	b = open(t, dir, nil)
	require.Equal(t, page.Top, read(t, b, "room/a").Top)
	require.NoError(t, b.Close(t.Context()))
}

// A store with a LossWindow keeps its epochs if it is closed, and otherwise gets new ones.
func TestLossWindow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "streams.db")
	b := open(t, dir, &bolt.Options{LossWindow: -1})
	first := publish(t, b, text("room/a", "", "1")).Position
	require.Equal(t, []string{"1"}, contents(read(t, b, "room/a")))
	killed, err := os.ReadFile(path)
	require.NoError(t, err)
	publish(t, b, text("room/a", "", "2"))
	require.NoError(t, b.Close(t.Context()))

	b = open(t, dir, &bolt.Options{LossWindow: -1})
	page := read(t, b, "room/a")
	require.Equal(t, []string{"1", "2"}, contents(page))
	require.Equal(t, first.Epoch, page.Top.Epoch)
	require.NoError(t, b.Close(t.Context()))

	require.NoError(t, os.WriteFile(path, killed, 0o600))
	b = open(t, dir, nil)
	require.Empty(t, contents(read(t, b, "room/a")), "the publication was not on disk")
	require.NotEqual(t, first.Epoch, publish(t, b, text("room/a", "", "3")).Position.Epoch)
	require.NoError(t, b.Close(t.Context()))

	b = open(t, dir, &bolt.Options{LossWindow: time.Millisecond})
	at := publish(t, b, text("room/a", "", "4")).Position
	require.Eventually(t, func() bool { return b.Stats().Commits > 0 }, 10*time.Second, time.Millisecond)
	killed, err = os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, b.Close(t.Context()))
	require.NoError(t, os.WriteFile(path, killed, 0o600))
	b = open(t, dir, nil)
	page = read(t, b, "room/a")
	require.Equal(t, []string{"3", "4"}, contents(page), "the publications were on disk")
	require.NotEqual(t, at.Epoch, page.Top.Epoch, "publications may be missing nevertheless")
	require.NoError(t, b.Close(t.Context()))
}

func TestBackup(t *testing.T) {
	for name, o := range map[string]*bolt.Options{"synced": nil, "window": {LossWindow: -1}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, o)
			was := publish(t, b, text("room/a", "1", "x")).Position
			var copied bytes.Buffer
			require.NoError(t, b.Backup(t.Context(), &copied))
			publish(t, b, text("room/a", "2", "y"))
			require.NoError(t, b.Close(t.Context()))
			b = open(t, dir, o)
			require.Equal(t, was.Epoch, read(t, b, "room/a").Top.Epoch, "the original keeps its epoch")
			require.NoError(t, b.Close(t.Context()))

			require.NoError(t, os.WriteFile(filepath.Join(dir, "streams.db"), copied.Bytes(), 0o600))
			b = open(t, dir, o)
			page := read(t, b, "room/a")
			require.Equal(t, []string{"x"}, contents(page))
			require.NotEqual(t, was.Epoch, page.Top.Epoch)
			require.NoError(t, b.Close(t.Context()))
			b = open(t, dir, o)
			require.Equal(t, page.Top, read(t, b, "room/a").Top, "once")
			require.NoError(t, b.Close(t.Context()))
		})
	}
}

// stuckWriter blocks in Write until goOn is closed.
type stuckWriter struct{ under, goOn chan struct{} }

func (w *stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.under <- struct{}{}:
	default:
	}
	<-w.goOn
	return len(p), nil
}

// During a backup publishers are not blocked.
func TestBackupIsOnline(t *testing.T) {
	b := open(t, t.TempDir(), nil)
	publish(t, b, text("room/a", "", "x"))
	w := &stuckWriter{make(chan struct{}, 1), make(chan struct{})}
	done := make(chan error)
	go func() { done <- b.Backup(t.Context(), w) }()
	<-w.under
	for i := range 50 {
		publish(t, b, text("room/a", "", fmt.Sprint(i)))
	}
	require.Len(t, read(t, b, "room/a").Publications, 51)
	close(w.goOn)
	require.NoError(t, <-done)
	require.NoError(t, b.Close(t.Context()))
}

func TestFull(t *testing.T) {
	b := open(t, t.TempDir(), &bolt.Options{MaxBytes: 10_000, MaxStreams: 20})
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = b.Publish(t.Context(), text("room/a", "", "something"))
	}
	require.ErrorIs(t, err, broker.ErrFull)
	require.Greater(t, n, 30)
	_, err = b.Publish(t.Context(), text("room/b", "", "x"))
	require.ErrorIs(t, err, broker.ErrFull)
	p := text("room/a", "", "within its own bounds")
	p.Keep.Messages = 5
	publish(t, b, p)
	publish(t, b, text("room/b", "", "below the bound again"))
	_, err = b.Publish(t.Context(), text("user/alice", "", "inboxes have a separate bound"))
	require.NoError(t, err)
	for i := range 100 {
		_, err = b.Subscribe(t.Context(), fmt.Sprint("room/more", i))
		require.NoError(t, err)
	}
	for i := range 18 {
		p := text(fmt.Sprint("room/more", i), "", "")
		p.Keep.Messages = 0
		publish(t, b, p)
	}
	_, err = b.Publish(t.Context(), text("room/toomuch", "", "x"))
	require.ErrorIs(t, err, broker.ErrFull)
	require.Empty(t, read(t, b, "room/toomuch").Top.Epoch)
	for i := range 19 {
		publish(t, b, text(fmt.Sprint("user/", i), "", "x"))
	}
	_, err = b.Publish(t.Context(), text("user/toomuch", "", "x"))
	require.ErrorIs(t, err, broker.ErrFull)
	require.NoError(t, b.Close(t.Context()))
}

// If one part of a message finds no room, no part is kept.
func TestAllPartsOrNone(t *testing.T) {
	b := open(t, t.TempDir(), &bolt.Options{MaxBytes: 10_000, MaxStreams: 2})
	send := func(content string, streams ...string) error {
		var parts []broker.Publication
		for _, stream := range streams {
			parts = append(parts, text(stream, "", content))
		}
		_, err := b.Publish(t.Context(), parts...)
		return err
	}
	require.NoError(t, send("x", "room/a", "user/1"))
	require.ErrorIs(t, send("x", "room/a", "user/1", "user/2", "user/3"), broker.ErrFull, "streams")
	large := strings.Repeat("x", 6000)
	require.ErrorIs(t, send(large, "user/1", "room/a", "room/b"), broker.ErrFull, "bytes")
	for _, stream := range []string{"room/a", "user/1"} {
		require.Len(t, read(t, b, stream).Publications, 1, stream)
	}
	for _, stream := range []string{"room/b", "user/2", "user/3"} {
		require.Empty(t, read(t, b, stream).Publications, stream)
	}
	require.NoError(t, send("x", "room/a", "room/b", "user/1", "user/2"))
	require.NoError(t, b.Close(t.Context()))
}

// Subscribing and reading write nothing: a user connects for the first time, and nothing was ever
// sent to them.
func TestNamesWriteNothing(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, nil)
	before := b.Stats()
	for i := range 3000 {
		stream := fmt.Sprint("user/", i)
		at, err := b.Subscribe(t.Context(), stream)
		require.NoError(t, err)
		_, err = b.Cursor(t.Context(), stream, fmt.Sprint("phone", i))
		require.NoError(t, err)
		require.NoError(t, b.Ack(t.Context(), stream, "phone", at))
		require.NoError(t, b.Unsubscribe(t.Context(), stream))
	}
	require.Equal(t, before, b.Stats())
	require.NoError(t, b.Close(t.Context()))
}

func TestOpenNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := bolt.Open("", nil)
	require.EqualError(t, err, "bolt: no path")
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, left)
}
