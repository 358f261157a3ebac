package state

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// inRoom runs a test in a bubble.
func inRoom(t *testing.T, show Show, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, show)
		defer r.close()
		test(t, r)
	})
}

// A room shows its number of members above 1,000 entries or 256 KiB of them, and its members again
// below 800 and 192 KiB.
func TestLevels(t *testing.T) {
	t.Run("entries", func(t *testing.T) {
		inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
			c := r.watcher()
			var all []*Entry
			for range 1000 {
				all = append(all, r.add(1, nil))
			}
			time.Sleep(time.Second)
			c.see()
			require.Equal(t, "members", c.show)
			require.Len(t, c.entries, 1000)
			all = append(all, r.add(1, nil))
			time.Sleep(time.Second)
			c.see()
			require.Equal(t, "count", c.show)
			require.Empty(t, c.entries)
			require.Equal(t, 1001, c.conns)
			require.Nil(t, r.Entries())
			for len(all) > 800 {
				r.drop(all[0])
				all = all[1:]
			}
			time.Sleep(2 * time.Second)
			c.see()
			require.Equal(t, "count", c.show)
			require.Equal(t, 800, c.conns)
			r.drop(all[0])
			time.Sleep(2 * time.Second)
			c.see()
			require.Equal(t, "members", c.show)
			require.Len(t, c.entries, 799)
		})
	})
	t.Run("bytes", func(t *testing.T) {
		inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
			c := r.watcher()
			const size = 1000 + len("alice") + keyLength
			state := bytes.Repeat([]byte("1"), 1000)
			var all []*Entry
			for range maxEntryBytes / size {
				all = append(all, r.add(1, state))
			}
			time.Sleep(time.Second)
			require.Equal(t, "members", c.see().show)
			all = append(all, r.add(1, state))
			time.Sleep(2 * time.Second)
			require.Equal(t, "count", c.see().show)
			left := fewEntryBytes / size
			for len(all) > left+1 {
				r.drop(all[0])
				all = all[1:]
			}
			time.Sleep(2 * time.Second)
			require.Equal(t, "count", c.see().show)
			r.do(func() { require.NoError(t, all[0].SetState(nil)) })
			time.Sleep(2 * time.Second)
			require.Equal(t, "members", c.see().show)
			require.Len(t, c.entries, left+1)
		})
	})
}

// While a room has just begun to show its number, a reader that waited is given it.
func TestSeenAtTheLevel(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		for range 900 { // until it waits
			r.add(1, nil)
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, maxUnseen, c.pace.n)
		r.add(101, nil)
		c.see()
		require.NotEmpty(t, c.show)
		time.Sleep(2 * time.Second)
		c.see()
		time.Sleep(2 * time.Second)
		require.Equal(t, "count", c.see().show)
		require.Equal(t, 1001, c.conns)
	})
}

// There is at most one count a second, and the last one comes.
func TestCounts(t *testing.T) {
	inRoom(t, ShowCount, func(t *testing.T, r *rig) {
		c := r.watcher()
		last, n := time.Time{}, 0
		for i := range 500 {
			r.counted(i+1, func() {})
			time.Sleep(20 * time.Millisecond)
			before := c.counts
			if c.see(); c.counts > before {
				require.Equal(t, before+1, c.counts)
				require.True(t, n < 2 || time.Since(last) >= countTick)
				last = time.Now()
				n++
			}
		}
		require.InDelta(t, 11, n, 1)
		time.Sleep(time.Second)
		require.Equal(t, 500, c.see().conns)
	})
}

// A watcher that joins between two counts is given the last count, and then the newest one, also if
// nobody has watched meanwhile.
func TestCountForANewWatcher(t *testing.T) {
	inRoom(t, ShowCount, func(t *testing.T, r *rig) {
		r.counted(1, func() {})
		c := r.watcher()
		require.Equal(t, 1, c.see().conns)
		time.Sleep(100 * time.Millisecond)
		r.do(c.Leave)
		r.counted(2, func() {})
		time.Sleep(100 * time.Millisecond)
		again := r.watcher()
		time.Sleep(2 * time.Second)
		require.Equal(t, 2, again.see().conns)
		third := r.join(false, func(c *testClient) {
			c.Watch(again.version)
		})
		require.Zero(t, third.see().frames, "it is up to date")
	})
}

// A value between two counts does not make the next count forgotten.
func TestCountAfterAValue(t *testing.T) {
	inRoom(t, ShowCount, func(t *testing.T, r *rig) {
		c := r.watcher()
		r.counted(1, func() {})
		time.Sleep(100 * time.Millisecond)
		flushed := r.flushed
		r.counted(2, func() {})
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, flushed, r.flushed, "nothing is looked at before it is due")
		require.NoError(t, r.value("k", numbered("k", 1, 1)))
		time.Sleep(300 * time.Millisecond)
		require.Zero(t, c.see().conns, "not before a second has passed")
		time.Sleep(700 * time.Millisecond)
		require.Equal(t, 2, c.see().conns)
		require.Len(t, c.values, 1)
	})
}

// A reader that has left is sent nothing.
func TestLeaveWhileWaiting(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		e := r.add(1, nil)
		for range 20 {
			r.do(func() { e.SetAway(!e.Away) })
			time.Sleep(20 * time.Millisecond)
		}
		n := c.receive().frames
		require.Equal(t, maxUnseen, n)
		r.do(c.Leave)
		c.pace.Seen(uint64(n))
		time.Sleep(time.Minute)
		require.Equal(t, n, c.receive().frames)
	})
}

// A watcher that names a version gets the difference if the room knows it, and everything if not.
func TestWatcherWithAVersion(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		r.add(100, nil)
		v := r.presence.version()
		r.add(1, nil)
		for version, want := range map[uint64]bool{0: false, 1: false, v: true, v + 2: false} {
			c := r.join(false, func(c *testClient) {
				c.Watch(version)
				if want {
					c.version, c.show = version, "members"
				}
			})
			time.Sleep(time.Second)
			c.see()
			require.Equal(t, 1, c.frames)
			require.Len(t, c.entries, map[bool]int{false: 101, true: 1}[want])
		}
	})
}

// A client that names a version in a room without values learns that there are none.
func TestKeysOfARoomWithoutValues(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		old := r.join(false, nil)
		c := r.join(false, func(c *testClient) {
			c.values["k"] = "1"
			c.KnowsValues(7)
		})
		require.Empty(t, c.see().values)
		require.Equal(t, 1, c.keyFrames)
		require.Equal(t, 1, c.frames-c.versionFrames)
		require.Zero(t, old.see().frames, "the others have nothing to forget")
		require.False(t, r.HasValues())
		require.NoError(t, r.value("k", numbered("k", 1, 1)))
		require.True(t, r.HasValues())
		require.Len(t, old.see().values, 1)
		require.Len(t, c.see().values, 1)
	})
}

// A watcher that joins a room with too many entries is given their number at once.
func TestWatcherOfACrowd(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		r.add(1001, nil)
		time.Sleep(time.Minute)
		require.Equal(t, 1001, r.watcher().see().conns)
		require.Equal(t, 1001, r.watcher().see().conns)
	})
}

// Changes of the entries of a room that shows its number cost its readers nothing.
func TestCountsAreNotEntries(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		e := r.add(1001, nil)
		time.Sleep(5 * time.Second)
		c.see()
		flushed := r.flushed
		for range 100 {
			r.do(func() { require.NoError(t, e.SetState([]byte("1"))) })
			r.do(func() { require.NoError(t, e.SetState(nil)) })
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, flushed, r.flushed)
	})
}

// A reader is sent 16 flushes that it has not seen, and then one in ten seconds.
func TestSilentReader(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c, good := r.watcher(), r.watcher()
		e := r.add(1, nil)
		for i := range 3000 { // a minute
			r.do(func() { require.NoError(t, e.SetState(fmt.Append(nil, i))) })
			time.Sleep(20 * time.Millisecond)
			good.see()
			if i == 100 {
				require.Equal(t, maxUnseen, c.receive().frames)
			}
		}
		require.InDelta(t, maxUnseen+5, c.receive().frames, 1)
		require.Greater(t, good.frames, 2900)
		c.see()
		time.Sleep(time.Second)
		require.Equal(t, good.see().entries, c.see().entries)
	})
}

// Beyond 32 KiB a reader is sent nothing before it has seen all but one flush.
func TestLargeFlushes(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		time.Sleep(time.Second)
		c.see()
		start := c.frames
		large := bytes.Repeat([]byte("1"), 40<<10)
		e := r.add(1, large)
		for range 50 {
			r.do(func() { require.NoError(t, e.SetState(large)) })
			r.do(func() { require.NoError(t, e.SetState(large[1:])) })
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, start+minUnseen, c.receive().frames)
		c.pace.Seen(uint64(start + 1))
		require.Equal(t, start+minUnseen+1, c.receive().frames)
		c.pace.Seen(1 << 60)
		synctest.Wait()
		require.Equal(t, int(c.pace.sent), c.receive().frames, "it has seen no more than was sent")
	})
}

// A room flushes at once, and then at the end of a tick.
func TestTicks(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		time.Sleep(time.Second)
		n := c.see().frames
		e := r.add(1, nil)
		require.Equal(t, n+1, c.see().frames, "at once")
		for range 19 {
			time.Sleep(time.Millisecond)
			r.do(func() { e.SetAway(!e.Away) })
			require.Equal(t, n+1, c.see().frames)
		}
		time.Sleep(time.Millisecond)
		require.Equal(t, n+2, c.see().frames, "at the end of the tick")
		for range 300 {
			r.join(false, nil)
		}
		require.Equal(t, 301*tickForReader, r.tick())
	})
}

// What does not change is not sent.
func TestNoChange(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		var e *Entry
		r.counted(1, func() { e = r.AddEntry("alice", "key", []byte(`"info"`), []byte(`"state"`)) })
		c := r.watcher()
		time.Sleep(time.Second)
		n := c.see().frames
		r.do(func() {
			e.SetInfo([]byte(`"info"`))
			require.NoError(t, e.SetState([]byte(`"state"`)))
			e.SetAway(false)
		})
		time.Sleep(time.Second)
		require.Equal(t, n, c.see().frames)
	})
}

// A reader is given values in flushes of up to 64 KiB.
func TestValuesAreCut(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		for i := range 10 {
			require.NoError(t, r.value(fmt.Sprint("k", i), numbered("k", i, 20<<10)))
		}
		c := r.join(false, nil)
		require.Len(t, c.receive().values, 6, "two flushes of three")
		require.Less(t, c.bytes, minUnseen*maxFlush)
		c.pace.Seen(3)
		require.Len(t, c.receive().values, 9)
		require.Len(t, c.see().see().values, 10)
		require.NoError(t, r.value("large", numbered("k", 0, 100<<10)))
		time.Sleep(time.Second)
		require.Contains(t, c.see().values, "large", "one value is always sent")
	})
}

// A frame with the keys comes exactly when the reader cannot know what was removed.
func TestKeysFrames(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		for i := range 10 {
			require.NoError(t, r.value(fmt.Sprint("k", i), numbered("k", i, 1)))
		}
		rejoin := func(from *testClient, version uint64) *testClient {
			return r.join(false, func(c *testClient) {
				c.values = from.values
				c.KnowsValues(version)
			})
		}
		first := r.join(false, nil)
		first.see()
		require.Zero(t, first.keyFrames, "a new reader has nothing to forget")
		require.Len(t, first.values, 10)
		v := first.valueVersion
		require.NoError(t, r.value("k1", "null"))
		second := rejoin(first, v).see()
		require.Zero(t, second.keyFrames)
		require.Equal(t, 1, second.frames-second.versionFrames, "the difference")
		require.Len(t, second.values, 9)
		for i := range 1000 { // until the removal is forgotten
			require.NoError(t, r.value("k2", numbered("k2", i+10, 1)))
			time.Sleep(20 * time.Millisecond)
			second.see()
		}
		require.Zero(t, second.keyFrames, "it was in step")
		require.NotContains(t, second.values, "k1")
		for _, version := range []uint64{v, 1, r.values.table.version + 1} {
			c := rejoin(first, version).see()
			require.Equal(t, 1, c.keyFrames, version)
			require.Equal(t, second.values, c.values)
			require.Equal(t, 1+9, c.frames-c.versionFrames)
		}
		third := r.join(false, nil) // it waits while a removal is forgotten
		third.see()
		third.wire.stall(true)
		for i := range 16 {
			require.NoError(t, r.value("k2", numbered("k2", i+2000, 1)))
			time.Sleep(20 * time.Millisecond)
		}
		require.NoError(t, r.value("k3", "null"))
		for i := range 500 {
			require.NoError(t, r.value("k2", numbered("k2", i+3000, 1)))
		}
		third.wire.stall(false)
		third.see()
		time.Sleep(time.Second)
		third.see()
		require.Equal(t, 1, third.keyFrames)
		require.NotContains(t, third.values, "k3")
	})
}

// The keys come once, also if the values are cut. A reader that has the keys, or never had any, is
// not told what was removed before.
func TestKeysComeOnce(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		for i := range 10 {
			require.NoError(t, r.value(fmt.Sprint("k", i), numbered("k", i, 20<<10)))
		}
		require.NoError(t, r.value("k1", "null"))
		for _, begin := range []func(c *testClient){nil, func(c *testClient) { c.KnowsValues(7) }} {
			c := r.join(false, begin)
			for range 10 {
				c.see()
			}
			require.Len(t, c.values, 9)
			require.Zero(t, c.removals)
			require.LessOrEqual(t, c.keyFrames, 1)
			require.Equal(t, begin != nil, c.keyFrames == 1)
			require.Equal(t, 9+c.keyFrames, c.frames-c.versionFrames)
			require.NoError(t, r.value("more", "1"))
			require.NoError(t, r.value("more", "null"))
			time.Sleep(time.Second)
			require.Equal(t, 1, c.see().removals)
		}
	})
}

// Readers that join a large room at once share a snapshot at the end of the tick, and those that take
// compressed frames share the compressed one.
func TestSnapshotsOfALargeRoom(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		r.add(smallRoom, nil)
		require.Equal(t, 1, r.watcher().receive().frames, "at once in a small room")
		r.add(1, nil)
		time.Sleep(time.Second)
		first := r.watcher()
		synctest.Wait()
		readers := []*testClient{r.watcher(), r.watcher(), r.watcher(), r.watcher()}
		require.Zero(t, readers[0].receive().frames)
		time.Sleep(100 * time.Millisecond)
		plain, deflated := sameFrames(t, readers)
		require.Len(t, plain, 1)
		require.Less(t, deflated[0].Len(), plain[0].Len()/2)
		require.Len(t, first.receive().entries, smallRoom+1)
	})
}

// Watchers of a large room that come back with one version share the difference.
func TestDifferencesOfALargeRoom(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		r.add(smallRoom+1, nil)
		v := r.presence.version()
		time.Sleep(time.Second)
		first := r.watcher() // a flush
		synctest.Wait()
		r.add(10, nil)
		var readers []*testClient
		for range 4 {
			readers = append(readers, r.join(false, func(c *testClient) { c.Watch(v) }))
		}
		time.Sleep(100 * time.Millisecond)
		plain, deflated := sameFrames(t, readers)
		require.Len(t, plain, 1)
		require.Len(t, deflated, 1)
		require.Len(t, first.receive().entries, smallRoom+11)
	})
}

// sameFrames requires that readers that take compressed frames have got the same ones, and the others
// too. Every second reader takes compressed frames.
func sameFrames(t *testing.T, readers []*testClient) (plain, deflated []*sendqueue.Frame) {
	t.Helper()
	first := map[bool][]*sendqueue.Frame{}
	for i, c := range readers {
		frames := c.wire.take()
		if i < 2 {
			first[c.pace.deflates] = frames
			continue
		}
		require.Len(t, frames, len(first[c.pace.deflates]))
		for i, f := range first[c.pace.deflates] {
			require.Same(t, f, frames[i])
		}
	}
	return first[false], first[true]
}

// Readers in step share their frames.
func TestSharedFrames(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		readers := []*testClient{r.watcher(), r.watcher(), r.watcher(), r.watcher()}
		time.Sleep(time.Second)
		for _, c := range readers {
			c.see()
		}
		r.add(1, nil)
		require.NoError(t, r.value("k", numbered("k", 1, 300)))
		time.Sleep(time.Second)
		plain, deflated := sameFrames(t, readers)
		require.Len(t, plain, 3, "an entry, a value, and the version")
		require.Len(t, deflated, 3)
		require.Same(t, plain[0], deflated[0], "it is short")
		require.Less(t, deflated[1].Len(), plain[1].Len()/2)
		require.Same(t, plain[2], deflated[2])
	})
}

// A plain reader gets values, and nothing of removed ones.
func TestPlainReader(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		for i := range 5 {
			key := fmt.Sprint("k", i)
			require.NoError(t, r.value(key, numbered(key, i, 1)))
		}
		c := r.join(true, func(c *testClient) { c.KnowsValues(7) })
		r.add(1, nil)
		for i := range 500 {
			require.NoError(t, r.value("k1", "null"))
			time.Sleep(20 * time.Millisecond)
			require.NoError(t, r.value("k1", numbered("k1", i+1, 1)))
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, 5+500, c.receive().frames)
		require.Zero(t, c.removals)
		c.wire.stall(true)
		for i := range 500 {
			require.NoError(t, r.value("k2", numbered("k2", i+10, 3000)))
			time.Sleep(20 * time.Millisecond)
		}
		n := c.queue.Counts()
		require.LessOrEqual(t, n.Queued, maxUnseen)
		require.Less(t, n.QueuedBytes, maxUnseenBytes+4000)
		c.wire.stall(false)
		time.Sleep(time.Second)
		c.receive()
		require.Equal(t, numbered("k2", 509, 3000), c.values["k2"])
	})
}

// A room has at most 1,000 keys and 1 MiB of values, a connection 64 keys.
func TestBoundsOfValues(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		for i := range maxRoomKeys {
			require.NoError(t, r.value(fmt.Sprint(i), `"x"`))
		}
		require.ErrorIs(t, r.value("more", `"x"`), ErrFull)
		require.NoError(t, r.value("more", "null"))
		require.NoError(t, r.value("1", `"y"`), "it replaces")
		require.NoError(t, r.value("2", "null"))
		require.NoError(t, r.value("more", `"x"`))
		for i := range maxRoomKeys {
			require.NoError(t, r.value(fmt.Sprint(i), "null"))
		}
		require.NoError(t, r.value("more", "null"))
		large := `"` + strings.Repeat("x", 64<<10-2) + `"`
		for i := range maxValueBytes >> 16 {
			require.NoError(t, r.value(fmt.Sprint(i), large))
		}
		require.ErrorIs(t, r.value("more", `1`), ErrFull)
		require.NoError(t, r.value("3", large), "it replaces")
		require.NoError(t, r.value("3", "1"))
		require.NoError(t, r.value("more", "1"))
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ShowNothing)
		defer r.close()
		r.Room = NewRoom(&r.cfg, &r.mu, "", ShowNothing)
		for i := range maxConnKeys {
			require.NoError(t, r.value(fmt.Sprint(i), `"x"`))
		}
		require.ErrorIs(t, r.value("more", `"x"`), ErrFull)
		require.Len(t, r.Values(), maxConnKeys)
		require.NoError(t, r.value("1", "null"))
		require.Len(t, r.Values(), maxConnKeys-1)
	})
}

// The list of all keys fits into a send queue, however short that is.
func TestKeysFitIntoTheQueue(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		r.cfg.QueueBytes, r.queues.MaxBytes = 64<<10, 64<<10
		n, long := 0, strings.Repeat(`"`, maxConnKeys-4)
		for ; n < maxRoomKeys && r.value(fmt.Sprintf("%04d%s", n, long), "1") == nil; n++ {
		}
		require.Positive(t, n)
		c := r.join(false, func(c *testClient) { c.KnowsValues(1) })
		for range 100 {
			c.see()
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, c.values, n)
		require.ErrorIs(t, r.value("more", "1"), ErrFull)
		require.NoError(t, r.value("0000"+long, "null"))
		require.NoError(t, r.value("more", "1"), "there is place again")
	})
}

// Values that move to another room are not lost while memory is short. The room has its own bounds.
func TestValuesThatMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ShowNothing)
		defer r.close()
		r.Room = NewRoom(&r.cfg, &r.mu, "", ShowNothing)
		b := &r.totals.Budget
		b.Limit, b.Mark, b.Alarm = 1<<20, 1<<19, func() {}
		for i := range maxConnKeys {
			require.NoError(t, r.value(fmt.Sprint("k", i), "1"))
		}
		values := r.Values()
		taken := b.Held()
		r.do(r.Close)
		r.Room = NewRoom(&r.cfg, &r.mu, "", ShowNothing)
		require.NoError(t, r.value("own", "1"))
		require.NoError(t, r.value("k1", "2"))
		r.cfg.Limit = 1
		b.Hold(600 << 10)
		require.ErrorIs(t, r.value("more", "1"), ErrFull)
		r.do(func() { r.AddValues(values) })
		require.Len(t, r.Values(), maxConnKeys)
		require.EqualValues(t, taken, b.Held()-600<<10)
		b.Hold(-600 << 10)
	})
}

// While memory is short, nothing is sent, and nothing is accepted that takes more memory.
func TestMemory(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		b := &r.totals.Budget
		b.Limit, b.Mark, b.Alarm = 1<<20, 1<<19, func() {}
		c := r.watcher()
		e := r.add(1, []byte("12"))
		require.NoError(t, r.value("k", `"12"`))
		time.Sleep(time.Second)
		n := c.see().frames
		b.Hold(600 << 10) // pressed
		require.ErrorIs(t, r.value("more", "1"), ErrFull)
		require.ErrorIs(t, r.value("k", `"123"`), ErrFull)
		require.NoError(t, r.value("k", `"34"`))
		r.do(func() {
			require.ErrorIs(t, e.SetState([]byte("123")), ErrFull)
			require.NoError(t, e.SetState([]byte("34")))
		})
		time.Sleep(time.Second)
		require.Equal(t, n+2, c.see().frames)
		b.Hold(600 << 10) // over
		r.do(func() { require.NoError(t, e.SetState([]byte("56"))) })
		require.NoError(t, r.value("k", "null"))
		time.Sleep(time.Minute)
		require.Equal(t, n+2, c.see().frames)
		b.Hold(-1200 << 10)
		time.Sleep(time.Second)
		c.see()
		require.Equal(t, "56", string(c.entries[e.Key].State))
		require.NotContains(t, c.values, "k")
		require.NoError(t, r.value("more", "1"))
	})
}

// Values that move with their session take no more memory, so they stay while memory is short.
func TestValuesOfASessionWhileMemoryIsShort(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		b := &r.totals.Budget
		b.Limit, b.Mark, b.Alarm = 1<<20, 1<<19, func() {}
		require.NoError(t, r.value("k", `"1"`))
		require.NoError(t, r.value("newer", `"1"`))
		b.Hold(600 << 10) // pressed
		next := NewRoom(&r.cfg, &r.mu, "", ShowNothing)
		r.do(func() {
			values := r.Values()
			r.Close()
			r.Room = next
			r.AddValues(values)
			require.Len(t, r.Values(), 2)
		})
		require.ErrorIs(t, r.value("more", "1"), ErrFull)
		b.Hold(-600 << 10)
	})
}

// A reader whose queue is full is looked at again, and is never ended.
func TestFullQueue(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		r.queues.MaxMessages = 4
		c := r.watcher()
		c.wire.stall(true)
		e := r.add(1, nil)
		for i := range 200 {
			r.do(func() { require.NoError(t, e.SetState(fmt.Append(nil, i))) })
			require.NoError(t, r.value(fmt.Sprint("k", i%7), numbered("k", i, 1)))
			time.Sleep(20 * time.Millisecond)
		}
		require.LessOrEqual(t, c.queue.Counts().Queued, 4+4)
		require.Zero(t, c.queue.Counts().Dropped)
		c.wire.stall(false)
		for range 20 {
			time.Sleep(200 * time.Millisecond)
			c.see()
		}
		require.Len(t, c.values, 7)
		require.Equal(t, "199", string(c.entries[e.Key].State))
	})
}

// A value that is larger than a flush may be waits while the queue is full, too, without the lock of
// the room. Then it comes.
func TestLargeValueAndFullQueue(t *testing.T) {
	inRoom(t, ShowNothing, func(t *testing.T, r *rig) {
		c, other := r.join(false, nil), r.join(false, nil)
		c.wire.stall(true)
		message := sendqueue.NewFrame(sendqueue.OpText, make([]byte, 16<<10))
		c.queue.Push(message, sendqueue.Message, sendqueue.Decline)
		synctest.Wait() // it is being written
		for c.queue.Push(message, sendqueue.Message, sendqueue.Decline) == sendqueue.Queued {
		}
		r.totals.Budget.Settle(message)
		large := numbered("large", 1, 2*maxFlush)
		require.NoError(t, r.value("large", large))
		require.NoError(t, r.value("small", "1"))
		time.Sleep(time.Second)
		require.Len(t, other.receive().values, 2)
		c.wire.stall(false)
		c.wire.take() // the messages
		time.Sleep(2 * recheck)
		require.Equal(t, map[string]string{"large": large, "small": "1"}, c.receive().values)
	})
}

// A busy room shows its members to a slow client in frames that are as large as a flush may be. The
// values have their part of each flush, too.
func TestValuesBesideLargePresence(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		var all []*Entry
		for range 200 {
			all = append(all, r.add(1, nil))
		}
		time.Sleep(time.Second)
		c.see()
		const keys = 5
		for i := range 100 {
			r.do(func() {
				for n, e := range all {
					require.NoError(t, e.SetState(fmt.Appendf(nil, `"%0*d %d"`, 1000, n, i)))
				}
			})
			if i == 10 {
				for n := range keys {
					require.NoError(t, r.value(fmt.Sprint("k", n), "1"))
				}
			}
			time.Sleep(100 * time.Millisecond)
			c.receive()
			if n := c.pace.n; n > 0 { // over a slow link, they arrive one after another
				c.pace.Seen(c.pace.unseen[c.pace.first].end)
			}
		}
		require.Len(t, c.values, keys)
	})
}

// Flushes of two rooms at once may be one more than the connection may have.
func TestTwoRoomsAtOnce(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.join(false, nil)
		for range maxUnseen + 3 {
			c.pace.took(2, 10, time.Now())
		}
		require.Equal(t, maxUnseen, c.pace.n)
		c.pace.Seen(2*maxUnseen + 5)
		require.Equal(t, 1, c.pace.n, "the last ones are one")
		require.Equal(t, 40, c.pace.bytes)
		c.pace.Seen(2*maxUnseen + 6)
		require.Zero(t, c.pace.n)
		require.Zero(t, c.pace.bytes)
	})
}

// A timer that was set for a full queue may fire when the client has to be waited for. That is no
// silence.
func TestTimerBeforeTheSilence(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.join(false, nil)
		for range maxUnseen {
			c.pace.took(1, 10, time.Now())
		}
		time.Sleep(silence - time.Millisecond)
		c.pace.silent()
		require.Equal(t, maxUnseen, c.pace.n)
		time.Sleep(time.Millisecond)
		c.pace.silent()
		require.Equal(t, maxUnseen-1, c.pace.n)
	})
}

// A connection that has ended waits for nothing.
func TestPaceThatHasEnded(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		c := r.watcher()
		c.pace.Close()
		e := r.add(1, nil)
		for range 50 {
			r.do(func() { e.SetAway(!e.Away) })
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, c.pace.waiting)
	})
}

// Keys are unique in a room.
func TestKeys(t *testing.T) {
	inRoom(t, ShowMembers, func(t *testing.T, r *rig) {
		var a, b, c *Entry
		r.do(func() {
			a, b, c = r.AddEntry("alice", "K", nil, nil), r.AddEntry("bob", "K", nil, nil), r.AddEntry("", "", nil, nil)
		})
		require.Equal(t, "K", a.Key)
		require.Len(t, b.Key, keyLength)
		require.Len(t, c.Key, keyLength)
		r.do(a.Remove)
		r.do(func() { b = r.AddEntry("carol", "K", nil, nil) })
		require.Len(t, b.Key, keyLength, "for watchers who have not heard that it is gone")
		r.do(func() { a = r.AddEntry("alice", "K", nil, nil) })
		require.Equal(t, "K", a.Key)
		r.do(c.Remove)
		r.do(func() { b = r.AddEntry("", c.Key, nil, nil) })
		require.NotEqual(t, c.Key, b.Key)
	})
}
