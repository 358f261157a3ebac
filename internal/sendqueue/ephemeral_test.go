package sendqueue

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// stalledRig returns a queue whose goroutine is writing the frames, to a peer that reads nothing.
func stalledRig(t *testing.T, cfg Config, frames ...*Frame) *rig {
	r := newRig(t, cfg)
	r.wire.stall(true)
	for _, f := range frames {
		r.give(f, Message, Disconnect)
	}
	r.Start()
	synctest.Wait()
	return r
}

// An ephemeral frame is dropped if more than 64 frames or 64 KiB wait, whatever the policy is. Frames
// that a goroutine is writing wait too.
func TestEphemeralFramesDoNotWait(t *testing.T) {
	long := NewFrame(OpText, make([]byte, ephemeralBytes/2-4))
	for name, test := range map[string]struct {
		writing, queued []*Frame
		want            Outcome
	}{
		"nothing waits":              {want: Queued},
		"64 frames are queued":       {[]*Frame{text("x")}, many(63), Queued},
		"65 frames are queued":       {[]*Frame{text("x")}, many(64), Dropped},
		"64 frames are written":      {many(64), nil, Queued},
		"65 frames are written":      {many(65), nil, Dropped},
		"64 and 1":                   {many(64), many(1), Dropped},
		"64 KiB are queued":          {nil, []*Frame{long, long}, Queued},
		"more than 64 KiB are":       {nil, []*Frame{long, long, text("x")}, Dropped},
		"64 KiB are written":         {[]*Frame{long, long}, nil, Queued},
		"more than 64 KiB are, too":  {[]*Frame{long, long, text("x")}, nil, Dropped},
		"more than 64 KiB, together": {[]*Frame{long, long}, many(1), Dropped},
	} {
		for _, policy := range []Policy{Disconnect, DropOldest, DropNewest} {
			t.Run(fmt.Sprint(name, policy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := stalledRig(t, Config{}, test.writing...)
					if test.writing == nil {
						r = newRig(t, Config{})
					}
					for _, f := range test.queued {
						r.give(f, Message, policy)
					}
					require.Equal(t, test.want, r.give(text("e"), Ephemeral, policy))
					dropped := r.totals.DroppedEphemeral.Load()
					require.Equal(t, test.want == Dropped, dropped == 1)
					require.Equal(t, dropped, r.Counts().Dropped)
					require.Empty(t, r.failed)
				})
			})
		}
	}
}

func many(n int) (frames []*Frame) {
	for range n {
		frames = append(frames, text("m"))
	}
	return frames
}

// What a flusher writes at this moment does not count: the peer takes it, as far as anybody knows.
func TestEphemeralFramesDuringAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for range 100 {
			r.say("m")
		}
		r.state = Ready
		var b batch
		require.True(t, r.startFlush(&b))
		require.Equal(t, Queued, r.give(text("e"), Ephemeral, Disconnect))
		r.switchToOwner(b)
		require.Equal(t, Dropped, r.give(text("e"), Ephemeral, Disconnect))
	})
}

// Ephemeral frames take no place of others: whatever the policy is, they make way, and the others are
// written in order.
func TestEphemeralFramesMakeWay(t *testing.T) {
	for _, policy := range []Policy{Disconnect, DropOldest, DropNewest} {
		for _, priority := range []Priority{Message, Vital} {
			synctest.Test(t, func(t *testing.T) {
				r := stalledRig(t, Config{MaxMessages: 5}, text("written"))
				var want []string
				for i := range 3 {
					require.Equal(t, Queued, r.give(text("e"), Ephemeral, policy))
					want = append(want, strconv.Itoa(i))
					require.Equal(t, Queued, r.give(text(want[i]), priority, policy))
				}
				for i := 3; i < 5; i++ {
					want = append(want, strconv.Itoa(i))
					require.Equal(t, Queued, r.give(text(want[i]), priority, policy))
				}
				require.Equal(t, Dropped, r.give(text("e"), Ephemeral, policy), "full")
				require.True(t, r.ephemeral)
				r.give(text("last"), priority, policy)
				require.False(t, r.ephemeral, "it need not look again")
				require.Equal(t, policy == Disconnect, r.sealed)
				require.EqualValues(t, 4, r.totals.DroppedEphemeral.Load())
				switch {
				case policy == DropOldest && priority == Message:
					want = append(want[1:], "last")
				case policy == Disconnect:
					want = nil // ended by its own messages
				}
				r.wire.stall(false)
				synctest.Wait()
				require.Equal(t, strings.Join(append([]string{"written"}, want...), " "), r.wire.words())
			})
		}
	}
}

// A frame that does not fit looks for ephemeral ones where they are: behind 64 others at most.
func TestEphemeralFrameBehindOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 100, MaxBytes: 1 << 20})
		for range ephemeralMessages {
			r.say("m")
		}
		require.Equal(t, Queued, r.give(text("e"), Ephemeral, Disconnect))
		big := NewFrame(OpText, make([]byte, 1<<20-300))
		require.Equal(t, Queued, r.give(big, Message, DropNewest))
		require.Zero(t, r.totals.DroppedEphemeral.Load())
		require.Equal(t, Dropped, r.give(NewFrame(OpText, make([]byte, 200)), Message, DropNewest))
		require.EqualValues(t, 1, r.totals.DroppedEphemeral.Load())
	})
}

// An ephemeral frame makes way for a notice too: a small queue full of them would drop each notice.
func TestEphemeralFramesMakeWayForNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := stalledRig(t, Config{MaxMessages: 10}, text("written"))
		for range 10 {
			require.Equal(t, Queued, r.give(text("e"), Ephemeral, Disconnect))
		}
		for i := range 5 {
			require.Equal(t, Queued, r.give(text(strconv.Itoa(i)), Notice, Disconnect))
		}
		require.Equal(t, Dropped, r.give(text("half full"), Notice, Disconnect))
		require.EqualValues(t, 10, r.totals.DroppedEphemeral.Load())
		require.EqualValues(t, 1, r.totals.DroppedNotices.Load())
		r.wire.stall(false)
		synctest.Wait()
		require.Equal(t, "written 0 1 2 3 4", r.wire.words())
	})
}
