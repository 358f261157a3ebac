package integration_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// One member of a thousand stops reading. Every other member receives each message at the same
// instant of virtual time as without it.
func TestStalledMemberDelaysNoOther(t *testing.T) {
	const members, messages = 1000, 40
	arrivals := func(stall bool) (at []time.Duration) {
		bubble(t, realtime.Options{Limits: realtime.Limits{QueueMessages: 20}}, func(t *testing.T, b *bed) {
			start := time.Now()
			var first *client
			for i := range members {
				c := b.stalled("")
				if i == 0 {
					first = c
				}
				if i > 0 || !stall {
					c.unstall()
				}
				_, err := b.Join(t.Context(), c.conn.ID(), "lobby")
				require.NoError(t, err)
			}
			synctest.Wait()
			before := b.Stats().Written
			payload := strings.Repeat("x", 8<<10) // the buffer of the pipe is soon full
			for range messages {
				time.Sleep(time.Second)
				b.news(realtime.ToRoom("lobby"), payload)
				synctest.Wait()
				now := b.Stats().Written
				if now-before >= members-1 {
					at = append(at, time.Since(start))
				}
				before = now
			}
			if stall {
				require.EqualValues(t, 1, b.Stats().Ended.Slow+b.Stats().Ended.Timeout)
				first.unstall()
			}
		})
		return at
	}
	free, stalled := arrivals(false), arrivals(true)
	require.Len(t, free, messages)
	require.Equal(t, free, stalled)
}

func TestSlowPolicies(t *testing.T) {
	payload := strings.Repeat("x", 64<<10) // fills the buffer of the pipe, with one more in the write
	for _, test := range []struct {
		name   string
		opts   realtime.Options
		want   []string // what the member reads in the end
		result realtime.Result
	}{
		{
			name:   "disconnect is the default",
			opts:   realtime.Options{Limits: realtime.Limits{QueueMessages: 3}},
			result: realtime.Result{Matched: 1, Dropped: 1},
		}, {
			name:   "drop oldest",
			opts:   realtime.Options{Limits: realtime.Limits{QueueMessages: 3}, Slow: realtime.SlowDropOldest},
			want:   []string{"7", "8", "9"},
			result: realtime.Result{Matched: 1, Queued: 1},
		}, {
			name: "drop newest, by room",
			opts: realtime.Options{Limits: realtime.Limits{QueueMessages: 3}, Room: func(name string) realtime.RoomOptions {
				require.Equal(t, "lobby", name)
				return realtime.RoomOptions{Slow: realtime.SlowDropNewest}
			}},
			want:   []string{"0", "1", "2"},
			result: realtime.Result{Matched: 1, Dropped: 1},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, test.opts, func(t *testing.T, b *bed) {
				slow := b.stalled("slow")
				_, err := b.Join(t.Context(), slow.conn.ID(), "lobby")
				require.NoError(t, err)
				synctest.Wait()
				b.news(realtime.ToRoom("lobby"), payload) // fills the buffer
				synctest.Wait()
				b.news(realtime.ToRoom("lobby"), "blocked") // its write blocks
				synctest.Wait()
				var last realtime.Result
				for word := range strings.SplitSeq("0123456789", "") {
					if last = b.news(realtime.ToRoom("lobby"), word); last.Dropped > 0 && test.want == nil {
						break
					}
				}
				require.Equal(t, test.result, last)
				synctest.Wait()
				if test.want == nil {
					require.EqualValues(t, 1, b.Stats().Ended.Slow)
					require.Error(t, slow.conn.Context().Err())
					return
				}
				info := slow.conn.Info()
				require.Equal(t, 4, info.Queued, "three, and one that is being written")
				require.EqualValues(t, 7, info.Dropped)
				slow.unstall()
				var got []string
				for _, line := range slow.got() {
					if word := strings.TrimPrefix(line, "news "); len(word) == 3 {
						got = append(got, strings.Trim(word, `"`))
					}
				}
				require.Equal(t, test.want, got)
				s := b.Stats()
				require.EqualValues(t, 7, s.DroppedOldest+s.DroppedNewest)
			})
		})
	}
}

func TestSlowConsumerGetsACloseCode(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{QueueMessages: 3}}, func(t *testing.T, b *bed) {
		slow := b.stalled("slow")
		b.news(realtime.ToAll(), strings.Repeat("x", 64<<10))
		synctest.Wait()
		b.news(realtime.ToAll(), "its write blocks")
		synctest.Wait()
		for range 5 {
			b.news(realtime.ToAll(), "y")
		}
		slow.unstall()
		slow.requireEnd(realtime.CloseSlow)
		why := slow.conn.Context()
		require.ErrorIs(t, contextCause(why), realtime.ErrClosed)
	})
}

func TestNoticesNeverEndAConnection(t *testing.T) {
	o := announced()
	o.Limits.QueueMessages = 4
	bubble(t, o, func(t *testing.T, b *bed) {
		slow := b.stalled("slow")
		b.news(realtime.ToAll(), strings.Repeat("x", 64<<10))
		synctest.Wait()
		for range 50 {
			b.open("visitor").Drop()
			synctest.Wait()
		}
		require.Nil(t, slow.ended())
		require.Positive(t, b.Stats().DroppedNotices)
		require.Zero(t, b.Stats().Ended.Slow)
	})
}

func TestStuckWriteIsCut(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Write: 7 * time.Second, Ping: -1}}, func(t *testing.T, b *bed) {
		slow := b.stalled("slow")
		start := time.Now()
		b.news(realtime.ToAll(), strings.Repeat("x", 64<<10))
		b.news(realtime.ToAll(), "y")
		b.news(realtime.ToAll(), "z")
		<-slow.conn.Context().Done()
		taken := 64 * time.Second // so long a KiB a second is about what the pipe has taken
		require.InDelta(t, 7*time.Second+taken, time.Since(start), float64(time.Second))
		synctest.Wait()
		require.EqualValues(t, 1, b.Stats().Ended.Timeout)
	})
}
