package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

var errDisk = errors.New("disk")

// The ways in which a commit ends.
const (
	fine    = iota
	nothing // the file has nothing of it
	phantom // the file has all of it, but the disk has reported an error
)

// flaky is a broker whose commits fail on demand.
type flaky struct {
	*Broker
	mu   sync.Mutex
	next int
	got  map[string][]uint64 // offsets delivered
	lost map[string]int

	onLost func() // may be nil
}

func openFlaky(t *testing.T, path string, o *Options) *flaky {
	t.Helper()
	b, err := Open(path, o)
	require.NoError(t, err)
	f := &flaky{Broker: b, got: map[string][]uint64{}, lost: map[string]int{}}
	b.store.onCommit = func(commit func() error) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch f.next {
		case nothing:
			return errDisk
		case phantom:
			return errors.Join(commit(), errDisk)
		default:
			return commit()
		}
	}
	require.NoError(t, b.Open(t.Context(), f))
	return f
}

func (f *flaky) fail(how int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = how
}

func (f *flaky) Deliver(p broker.Publication) {
	f.got[p.Stream] = append(f.got[p.Stream], p.Position.Offset)
}

func (*flaky) Receive(string, []byte) {}

func (*flaky) Cut(bool) {}

func (f *flaky) Lost(stream string) {
	f.lost[stream]++
	if f.onLost != nil {
		f.onLost()
	}
}

// counting returns a publication whose id and content are a number.
func counting(stream string, n, keep int) broker.Publication {
	return broker.Publication{
		Stream: stream, Target: broker.Target{Rooms: []string{"lobby"}}, Keep: broker.Retention{Messages: keep},
		Message: broker.Message{
			Type: "chat", Sender: "alice", ID: strconv.Itoa(n), Content: strconv.AppendInt(nil, int64(n), 10),
		},
	}
}

// twin is the expected state of a stream.
type twin struct {
	top  uint64
	kept []int
	all  []uint64
}

func (w *twin) take(n, keep int) {
	w.top++
	w.all = append(w.all, w.top)
	w.kept = append(w.kept, n)
	w.kept = w.kept[max(0, len(w.kept)-keep):]
}

func (w *twin) require(t *testing.T, b *Broker, stream string) {
	t.Helper()
	page, err := b.Read(t.Context(), stream, broker.Query{Limit: 1000})
	require.NoError(t, err)
	if w.top == 0 {
		require.Empty(t, page.Publications)
		require.Zero(t, page.Top.Offset)
		return
	}
	var got []int
	for _, p := range page.Publications {
		n, err := strconv.Atoi(string(p.Message.Content))
		require.NoError(t, err)
		got = append(got, n)
	}
	require.Equal(t, w.top, page.Top.Offset)
	require.LessOrEqual(t, len(got), len(w.kept))
	if len(got) > 0 {
		require.Equal(t, w.kept[len(w.kept)-len(got):], got)
	}
	require.Equal(t, w.top-uint64(len(got)), page.Floor)
}

// Commits fail now and then, in either way. No failed publication is ever delivered or read,
// offsets are dense, the next commit succeeds, and a store that is opened again has the same
// contents. Publications discarded in a failed commit may stay discarded.
func TestFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "streams.db")
	f := openFlaky(t, path, nil)
	twins := map[string]*twin{}
	failures := 0
	for n := range 600 {
		stream := fmt.Sprint("room/", rand.N(5))
		keep := 1 + rand.N(5)*4
		if twins[stream] == nil {
			twins[stream] = &twin{}
			if rand.N(2) == 0 {
				_, err := f.Subscribe(t.Context(), stream)
				require.NoError(t, err)
				f.got[stream] = []uint64{}
			}
		}
		how := max(fine, rand.N(6)-3)
		f.fail(how)
		out, err := one(f.Publish(t.Context(), counting(stream, n, keep)))
		f.fail(fine)
		if how == fine {
			require.NoError(t, err)
			require.False(t, out.Duplicate)
			twins[stream].take(n, keep)
			require.Equal(t, twins[stream].top, out.Position.Offset)
		} else {
			require.ErrorIs(t, err, errDisk)
			failures++
		}
		for stream, w := range twins {
			w.require(t, f.Broker, stream)
			if got := f.got[stream]; got != nil {
				require.Equal(t, append([]uint64{}, w.all...), got)
			}
		}
		if rand.N(100) == 0 && how == fine {
			require.NoError(t, f.Close(t.Context()))
			f = openFlaky(t, path, nil)
		}
	}
	require.Greater(t, failures, 100)
	require.NoError(t, f.Close(t.Context()))
	f = openFlaky(t, path, nil)
	for stream, w := range twins {
		w.require(t, f.Broker, stream)
	}
	requireWhole(t, f.Broker)
	require.NoError(t, f.Close(t.Context()))
}

// requireWhole requires that the states agree with the entries, and that no entry belongs to no
// stream.
func requireWhole(t *testing.T, b *Broker) {
	t.Helper()
	require.NoError(t, b.store.view(func(tx *bbolt.Tx) error {
		count := func(bucket string, number uint64) (n int64) {
			_ = tx.Bucket([]byte(bucket)).ForEach(func(key, _ []byte) error {
				if at, _ := splitKey(key); at == number || number == 0 {
					n++
				}
				return nil
			})
			return n
		}
		var records, ids int64
		_ = tx.Bucket([]byte(bucketStreams)).ForEach(func(name, value []byte) error {
			st, ok := readState(name, value)
			require.True(t, ok)
			require.Equal(t, st.count, count(bucketRecords, st.number), "%s", name)
			require.Equal(t, st.ids, count(bucketOrder, st.number), "%s", name)
			require.Equal(t, st.ids, count(bucketIDs, st.number), "%s", name)
			records, ids = records+st.count, ids+st.ids
			return nil
		})
		require.Equal(t, records, count(bucketRecords, 0))
		require.Equal(t, ids, count(bucketIDs, 0))
		for err := range tx.Check() {
			require.NoError(t, err)
		}
		return nil
	}))
}

// A publisher repeats a failed publication with the same id: it is kept once.
func TestRepeatAfterFailure(t *testing.T) {
	f := openFlaky(t, filepath.Join(t.TempDir(), "streams.db"), nil)
	f.fail(phantom)
	_, err := f.Publish(t.Context(), counting("room/a", 1, 10))
	require.ErrorIs(t, err, errDisk)
	page, err := f.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	require.Equal(t, broker.Page{}, page, "the stream does not exist")
	f.fail(fine)
	out, err := one(f.Publish(t.Context(), counting("room/a", 1, 10)))
	require.NoError(t, err)
	require.False(t, out.Duplicate)
	require.EqualValues(t, 1, out.Position.Offset)
	require.NoError(t, f.Close(t.Context()))
}

// With a LossWindow a failed commit loses acknowledged publications: the affected streams get new
// epochs, and Lost is called.
func TestFailureWithLossWindow(t *testing.T) {
	for _, how := range []int{nothing, phantom} {
		path := filepath.Join(t.TempDir(), "streams.db")
		f := openFlaky(t, path, &Options{LossWindow: -1, Logger: slog.New(slog.DiscardHandler)})
		ctx := t.Context()
		for _, stream := range []string{"room/a", "room/quiet"} {
			_, err := f.Subscribe(ctx, stream)
			require.NoError(t, err)
		}
		first, err := one(f.Publish(ctx, counting("room/a", 1, 10)))
		require.NoError(t, err)
		sync := func() error {
			return f.submit(ctx, &task{do: func(bt *batch) error { bt.sync = true; return nil }})
		}
		require.NoError(t, sync())
		_, err = f.Publish(ctx, counting("room/a", 2, 10))
		require.NoError(t, err)
		f.fail(how)
		require.ErrorIs(t, sync(), errDisk)
		_, err = f.Read(ctx, "room/a", broker.Query{})
		require.ErrorIs(t, err, errDisk, "readers wait for the next commit")
		f.fail(fine)
		require.Eventually(t, func() bool {
			_, err := f.Read(ctx, "room/a", broker.Query{})
			return err == nil
		}, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, sync())
		page, err := f.Read(ctx, "room/a", broker.Query{})
		require.NoError(t, err)
		require.NotEqual(t, first.Position.Epoch, page.Top.Epoch)
		require.Len(t, page.Publications, how)
		require.Equal(t, map[string]int{"room/a": 1}, f.lost)
		out, err := one(f.Publish(ctx, counting("room/a", 3, 10)))
		require.NoError(t, err)
		require.Equal(t, page.Top, broker.Position{Epoch: out.Position.Epoch, Offset: out.Position.Offset - 1})
		require.NoError(t, f.Close(ctx))
		f = openFlaky(t, path, nil)
		page, err = f.Read(ctx, "room/a", broker.Query{})
		require.NoError(t, err)
		require.Equal(t, out.Position, page.Top)
		requireWhole(t, f.Broker)
		require.NoError(t, f.Close(ctx))
	}
}

// A change by another program while the file is closed to recover is detected.
func TestChangedByOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "streams.db")
	f := openFlaky(t, path, nil)
	f.fail(nothing)
	_, err := f.Publish(t.Context(), counting("room/a", 1, 10))
	require.ErrorIs(t, err, errDisk)
	require.NoError(t, f.store.db.Close())
	other, err := Open(path, nil)
	require.NoError(t, err)
	for n := range 3 {
		_, err = other.Publish(t.Context(), counting("room/a", n, 10))
		require.NoError(t, err)
	}
	require.NoError(t, other.Close(t.Context()))
	f.fail(fine)
	for range 2 {
		_, err = f.Publish(t.Context(), counting("room/a", 1, 10))
		require.ErrorIs(t, err, ErrChanged)
	}
	_ = f.Close(context.Background())
}

// All changes are committed when the window ends, large or small.
func TestWindowEnds(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), &Options{LossWindow: 20 * time.Millisecond})
	require.NoError(t, err)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = b.Publish(t.Context(), counting(fmt.Sprint("room/", i), i, 1))
			}
		}
	})
	require.Eventually(t, func() bool { return b.Stats().Commits > 3 }, 10*time.Second, time.Millisecond)
	close(stop)
	busy.Wait()
	require.NoError(t, b.Close(t.Context()))
}

// Publications acknowledged within the LossWindow are lost if Close cannot commit them either.
// Close returns the error, and the store gets new epochs when it is opened again.
func TestCloseFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "streams.db")
	f := openFlaky(t, path, &Options{LossWindow: -1, Logger: slog.New(slog.DiscardHandler)})
	first, err := one(f.Publish(t.Context(), counting("room/a", 1, 10)))
	require.NoError(t, err)
	require.NoError(t, f.submit(t.Context(), &task{do: func(bt *batch) error { bt.sync = true; return nil }}))
	_, err = f.Publish(t.Context(), counting("room/a", 2, 10))
	require.NoError(t, err)
	f.fail(nothing)
	require.ErrorIs(t, f.Close(t.Context()), errDisk)
	f = openFlaky(t, path, nil)
	page, err := f.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	require.NotEqual(t, first.Position.Epoch, page.Top.Epoch)
	require.EqualValues(t, 1, page.Top.Offset)
	require.NoError(t, f.Close(t.Context()))
}

// Each of several concurrent backups is labelled as a copy.
func TestBackupsAtOnce(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(filepath.Join(dir, "streams.db"), nil)
	require.NoError(t, err)
	copies := make([]bytes.Buffer, 64)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(copies)); i = next.Add(1) - 1 {
				if err := b.Backup(t.Context(), &copies[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range copies {
		path := filepath.Join(dir, "copy.db")
		require.NoError(t, os.WriteFile(path, copies[i].Bytes(), 0o600))
		require.True(t, headerIn(t, path).copied, "copy %d", i)
	}
	require.NoError(t, b.Close(t.Context()))
	require.False(t, headerIn(t, filepath.Join(dir, "streams.db")).copied)
}

// headerIn returns the header of a closed store.
func headerIn(t *testing.T, path string) (h header) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		var ok bool
		h, ok = readHeader(tx)
		require.True(t, ok)
		return nil
	}))
	require.NoError(t, db.Close())
	return h
}

// The sweeper claims streams that have lost publications while Lost is called for them.
func TestSweepDuringLost(t *testing.T) {
	f := openFlaky(t, filepath.Join(t.TempDir(), "streams.db"), &Options{
		LossWindow: -1, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	sync := func() error {
		return f.submit(ctx, &task{do: func(bt *batch) error { bt.sync = true; return nil }})
	}
	_, err := f.Subscribe(ctx, "room/told")
	require.NoError(t, err)
	quiet := []string{"room/a", "room/b", "room/c", "room/d", "room/e", "room/f", "room/g"}
	for _, stream := range append(quiet, "room/told") {
		_, err := f.Publish(ctx, counting(stream, 1, 10))
		require.NoError(t, err)
	}
	f.fail(nothing)
	require.ErrorIs(t, sync(), errDisk)
	f.onLost = func() {
		for _, stream := range quiet {
			forgotten := make(chan struct{})
			go func() {
				defer close(forgotten)
				_ = f.forgetStream(stream)
			}()
			awaitClaim(&f.cache, stream, forgotten)
		}
	}
	f.fail(fine)
	require.NoError(t, sync())
	require.NoError(t, f.Close(ctx))
}

// awaitClaim waits until a stream is claimed, or done is closed.
func awaitClaim(c *cache, stream string, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		h := c.find(stream)
		if h != nil && !h.mu.TryLock() {
			return
		}
		if h != nil {
			h.mu.Unlock()
		}
		runtime.Gosched()
	}
}

// Close returns when its context ends during a commit that hangs, and continues in the background.
func TestCloseEndsWithItsContext(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), nil)
	require.NoError(t, err)
	under, goOn := make(chan struct{}), make(chan struct{})
	b.store.onCommit = func(commit func() error) error {
		close(under)
		<-goOn
		return commit()
	}
	published := make(chan error, 1)
	go func() {
		_, err := b.Publish(context.Background(), counting("room/a", 1, 1))
		published <- err
	}()
	<-under
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Close(ctx), context.Canceled)
	close(goOn)
	require.NoError(t, <-published)
	require.ErrorIs(t, b.Close(t.Context()), broker.ErrClosed)
}

// one returns the result of a single publication.
func one(out []broker.Published, err error) (broker.Published, error) {
	if err != nil {
		return broker.Published{}, err
	}
	return out[0], nil
}
