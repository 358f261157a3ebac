package bolt

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// sweepAll sweeps all streams once.
func sweepAll(t *testing.T, b *Broker) {
	t.Helper()
	for from := []byte(nil); ; {
		var err error
		from, err = b.sweepFrom(from)
		require.NoError(t, err)
		if from == nil {
			return
		}
	}
}

// stateOf returns the state of a stream in the file.
func stateOf(t *testing.T, b *Broker, stream string) state {
	t.Helper()
	var st state
	require.NoError(t, b.store.view(func(tx *bbolt.Tx) error {
		name := []byte(stream)
		st, _ = readState(name, tx.Bucket([]byte(bucketStreams)).Get(name))
		return nil
	}))
	return st
}

// Expired publications are discarded without another publication, and later the stream ends.
func TestSweep(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), &Options{ForgetAfter: 100 * time.Millisecond})
	require.NoError(t, err)
	ctx := t.Context()
	for i := range sweepStreams + 10 {
		b.submitForTest(t, fmt.Sprint("room/", i))
	}
	p := counting("room/old", 1, 10)
	p.Keep.Age = time.Millisecond
	was, err := one(b.Publish(ctx, p))
	require.NoError(t, err)
	_, err = b.Publish(ctx, counting("room/kept", 1, 10))
	require.NoError(t, err)
	b.submitForTest(t, "room/used")
	_, err = b.Subscribe(ctx, "room/used")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		sweepAll(t, b)
		return b.streamsForTest(t) == 2
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, stateOf(t, b, "room/old").number)
	require.NotZero(t, stateOf(t, b, "room/kept").number)
	require.NotZero(t, stateOf(t, b, "room/used").number)
	requireWhole(t, b)
	page, err := b.Read(ctx, "room/old", broker.Query{})
	require.NoError(t, err)
	require.Equal(t, broker.Page{}, page)
	again, err := one(b.Publish(ctx, p))
	require.NoError(t, err)
	require.NotEqual(t, was.Position.Epoch, again.Position.Epoch, "another life")
	require.NoError(t, b.Close(ctx))
}

// Expired publications are not returned, whether or not the sweeper has run.
func TestAgeIsExact(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), nil)
	require.NoError(t, err)
	p := counting("room/a", 1, 10)
	p.Keep.Age = 1
	out, err := one(b.Publish(t.Context(), p))
	require.NoError(t, err)
	page, err := b.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	require.Equal(t, broker.Page{Top: out.Position, Floor: 1, Why: broker.ReasonExpired}, page)
	require.NoError(t, b.Close(t.Context()))
}

// submitForTest begins a stream.
func (b *Broker) submitForTest(t *testing.T, stream string) {
	t.Helper()
	h, err := b.acquire(stream)
	require.NoError(t, err)
	require.NoError(t, b.submit(t.Context(), &task{heads: []*head{h}, do: func(bt *batch) error { return bt.begin(h) }}))
}

// streamsForTest returns the number of streams according to the writer.
func (b *Broker) streamsForTest(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, b.submit(t.Context(), &task{do: func(*batch) error {
		n = int(b.streams[rooms].Load())
		return nil
	}}))
	return n
}

// Ids are remembered for two minutes, and not forever.
func TestIDsExpire(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), nil)
	require.NoError(t, err)
	h, err := b.acquire("room/a")
	require.NoError(t, err)
	do := func(at time.Time, f func(bt *batch, st *state)) {
		b.cache.again(h)
		require.NoError(t, b.submit(t.Context(), &task{heads: []*head{h}, do: func(bt *batch) error {
			bt.now = at
			f(bt, bt.state(h))
			bt.mark(h)
			return nil
		}}))
	}
	start := time.Now()
	publish := func(n int) *publishing {
		p := counting("room/a", n, 5)
		value, err := newRecord(&p)
		require.NoError(t, err)
		return &publishing{b: b, parts: []part{{head: h, p: p, value: value}}}
	}
	for n := range 20 {
		do(start.Add(time.Duration(n)*time.Second), func(bt *batch, _ *state) { require.NoError(t, publish(n).do(bt)) })
	}
	require.EqualValues(t, 20, stateOf(t, b, "room/a").ids)
	do(start.Add(2*time.Minute+5*time.Second), func(bt *batch, st *state) { bt.expireIDs(st, 1000) })
	require.EqualValues(t, 14, stateOf(t, b, "room/a").ids)
	do(start.Add(time.Hour), func(bt *batch, st *state) { bt.expireIDs(st, 1000) })
	require.EqualValues(t, 5, stateOf(t, b, "room/a").ids, "the ids of kept publications")
	do(start.Add(time.Hour), func(bt *batch, _ *state) {
		old, kept := publish(14), publish(15)
		require.NoError(t, kept.do(bt))
		require.True(t, kept.parts[0].result.Duplicate)
		require.NoError(t, old.do(bt))
		require.False(t, old.parts[0].result.Duplicate)
	})
	requireWhole(t, b)
	b.cache.unpin(h)
	require.NoError(t, b.Close(t.Context()))
}

// Memory does not grow with the number of streams that were ever read.
func TestCacheIsBounded(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), nil)
	require.NoError(t, err)
	for i := range 2 * cacheHeads {
		_, err := b.Read(t.Context(), fmt.Sprint("room/", i), broker.Query{})
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(b.cache.heads), cacheHeads+1)
	require.Empty(t, b.cache.pinned())
	require.NoError(t, b.Close(t.Context()))
}

// A stream that has ended begins again with another epoch. If there are as many streams as allowed,
// one that keeps nothing ends early.
func TestCrowded(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), &Options{MaxStreams: 2})
	require.NoError(t, err)
	ctx := t.Context()
	old := counting("room/old", 1, 0)
	was, err := one(b.Publish(ctx, old))
	require.NoError(t, err)
	require.EqualValues(t, b.opts.ForgetAfter, b.forgetAfter(rooms))
	_, err = b.Publish(ctx, counting("room/kept", 1, 1))
	require.NoError(t, err)
	_, err = b.Publish(ctx, counting("room/new", 1, 1))
	require.ErrorIs(t, err, broker.ErrFull)
	require.EqualValues(t, idAge, b.forgetAfter(rooms))
	require.EqualValues(t, b.opts.ForgetAfter, b.forgetAfter(inboxes))
	require.NoError(t, b.forgetStream("room/old"))
	require.NoError(t, b.forgetStream("room/kept"))
	_, err = b.Publish(ctx, counting("room/new", 1, 1))
	require.NoError(t, err)
	require.NoError(t, b.forgetStream("room/kept"))
	require.EqualValues(t, 2, b.streamsForTest(t))
	at, err := b.Subscribe(ctx, "room/old")
	require.NoError(t, err)
	require.NotEqual(t, was.Position.Epoch, at.Epoch)
	requireWhole(t, b)
	require.NoError(t, b.Close(ctx))
}

// The system's clock is set while the store is closed, forward and back: positions increase, ids
// are remembered, only expired publications are lost, and the sweeper finishes.
func TestClockSteps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "streams.db")
	const year = 365 * 24 * time.Hour
	var last broker.Published
	for i, c := range []struct {
		step  time.Duration
		known bool // ids before are remembered; otherwise they have expired
	}{
		{0, true}, {time.Hour, true}, {-time.Hour, true}, {-year, true},
		{0, true}, {year, false}, {0, true}, {-year, true},
	} {
		b, err := Open(path, &Options{ahead: c.step})
		require.NoError(t, err)
		ctx := t.Context()
		sweepAll(t, b)
		if i > 0 {
			again, err := one(b.Publish(ctx, counting("room/a", i-1, 100)))
			require.NoError(t, err)
			require.Equal(t, c.known, again.Duplicate, "step %v", c.step)
			if !again.Duplicate {
				last = again
			}
		}
		kept := counting("room/a", i, 100)
		kept.Keep.Age, kept.Message.TTL = 24*time.Hour, 24*time.Hour
		out, err := one(b.Publish(ctx, kept))
		require.NoError(t, err)
		require.Equal(t, last.Position.Offset, out.Position.Offset-1)
		last = out
		for range 3 {
			sweepAll(t, b)
		}
		rest := b.Stats().Commits
		sweepAll(t, b)
		require.Equal(t, rest, b.Stats().Commits)
		page, err := b.Read(ctx, "room/a", broker.Query{Limit: 100})
		require.NoError(t, err)
		want := i + 1
		if i >= 5 {
			want = i - 3 // one publication was refused as a duplicate
		}
		require.Len(t, page.Publications, want, "step %v", c.step)
		for _, p := range page.Publications {
			require.False(t, p.Expired(time.Now()))
			require.False(t, p.At.After(time.Now()))
		}
		require.NoError(t, b.Close(ctx))
	}
}

// An open store does not follow the system's clock: publications have their true age.
func TestClockIsEven(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), &Options{ahead: -time.Hour})
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), counting("room/a", 1, 100))
	require.NoError(t, err)
	page, err := b.Read(t.Context(), "room/a", broker.Query{})
	require.NoError(t, err)
	age := time.Since(page.Publications[0].At)
	require.True(t, age >= 0 && age < time.Minute, "%v", age)
	require.NoError(t, b.Close(t.Context()))
}
