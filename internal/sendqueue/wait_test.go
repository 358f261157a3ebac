package sendqueue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueueWaitReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		r.wire.stall(true)
		for range maxReplies + 2 { // the first is being written
			r.give(text("r"), Reply, Disconnect)
			synctest.Wait()
		}
		read := false
		go func() {
			r.WaitReplies()
			read = true
		}()
		synctest.Wait()
		require.False(t, read, "a peer that does not read its replies is not read")
		r.wire.stall(false)
		synctest.Wait()
		require.True(t, read)
	})
}

func TestQueueWaitRepliesEndsWithTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for range maxReplies + 1 {
			r.give(text("r"), Reply, Disconnect)
		}
		go r.Kill()
		r.WaitReplies()
	})
}

func TestQueueWaitSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 8})
		r.Start()
		require.True(t, r.WaitSpace())
		r.wire.stall(true)
		r.say("flies")
		synctest.Wait()
		r.say("a", "b", "c")
		space := make(chan bool, 1)
		go func() { space <- r.WaitSpace() }()
		synctest.Wait()
		require.Empty(t, space, "three of eight wait")
		r.wire.stall(false)
		require.True(t, <-space)

		r.wire.stall(true)
		r.say("flies")
		synctest.Wait()
		r.say("a", "b", "c")
		go func() { space <- r.WaitSpace() }()
		synctest.Wait()
		r.Close(CloseFrame(1000, ""), time.Second)
		require.False(t, <-space, "nothing can be pushed any more")
	})
}

func TestQueueWaitWritten(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(t *testing.T, r *rig)
		want bool
	}{
		"written": {func(t *testing.T, r *rig) { r.wire.stall(false) }, true},
		"closed and written": {func(t *testing.T, r *rig) {
			r.Close(CloseFrame(1000, ""), time.Minute)
			require.Equal(t, Refused, r.give(text("late"), Message, Disconnect))
			r.wire.stall(false)
		}, true},
		"followed by more": {func(t *testing.T, r *rig) {
			r.say("c")
			r.wire.stall(false)
		}, true},
		"killed":  {func(t *testing.T, r *rig) { r.Kill() }, false},
		"aborted": {func(t *testing.T, r *rig) { r.Abort(CloseFrame(1000, ""), time.Minute) }, false},
		"stuck":   {func(*testing.T, *rig) { time.Sleep(time.Minute) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{})
				require.True(t, r.WaitWritten(0), "nothing is to be written")
				r.Start()
				r.wire.stall(true)
				r.say("flies")
				synctest.Wait()
				r.say("a", "b")
				written := make(chan bool, 1)
				through := r.Counts().Through()
				go func() { written <- r.WaitWritten(through) }()
				synctest.Wait()
				require.Empty(t, written)
				test.end(t, r)
				require.Equal(t, test.want, <-written)
				require.Equal(t, test.want, r.WaitWritten(through), "asked late")
			})
		})
	}
}

// A vital frame is refused if it does not fit. Once queued, it is not dropped for a later frame.
func TestQueueNeverDropsQueuedVitalFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 2})
		r.Start()
		r.wire.stall(true)
		r.say("flies")
		synctest.Wait()
		require.Equal(t, Queued, r.give(text("vital"), Vital, DropNewest))
		require.Equal(t, Queued, r.give(text("old"), Message, DropOldest))
		require.Equal(t, Dropped, r.give(text("vital too"), Vital, DropNewest))
		require.Equal(t, Queued, r.give(text("new"), Message, DropOldest))
		r.wire.stall(false)
		synctest.Wait()
		require.Equal(t, "flies vital new", r.wire.words())
	})
}
