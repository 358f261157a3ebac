package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// memoryOptions returns Options with a memory budget and no other limit of the send queue.
func memoryOptions(budget int) realtime.Options {
	return realtime.Options{Limits: realtime.Limits{MemoryBytes: budget}, Timeouts: realtime.Timeouts{Write: time.Hour, Ping: -1}}
}

// fillQueue sends messages to a client that does not read: as many as its pipe and the write in
// progress hold, and then some that wait in the send queue.
func (b *bed) fillQueue(to realtime.Target, messages int, size int) {
	b.t.Helper()
	b.news(to, strings.Repeat("x", 64<<10))
	synctest.Wait()
	for range messages {
		b.news(to, strings.Repeat("x", size))
	}
	synctest.Wait()
}

func TestStalledMembersShareFrames(t *testing.T) {
	bubble(t, memoryOptions(0), func(t *testing.T, b *bed) {
		var members []*client
		for range 1000 {
			c := b.stalled("")
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
			members = append(members, c)
		}
		synctest.Wait()
		require.Zero(t, b.Stats().QueuedBytes, "everything is in the pipe")
		b.fillQueue(realtime.ToRoom("hall"), 10, 50_000)
		require.InDelta(t, 10*50_000, b.Stats().QueuedBytes, 10*1000)
		for _, c := range members[1:] {
			c.unstall()
		}
		synctest.Wait()
		require.InDelta(t, 10*50_000, b.Stats().QueuedBytes, 10*1000, "one member still holds it")
		members[0].unstall()
		synctest.Wait()
		require.Zero(t, b.Stats().QueuedBytes)
		require.Zero(t, b.Stats().Lost)
	})
}

// Above the budget, the connection with the largest send queue is ended. Others are not affected.
func TestLargestQueueIsEnded(t *testing.T) {
	for name, budget := range map[string]int{"over": 1 << 20, "off": -1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, memoryOptions(budget), func(t *testing.T, b *bed) {
				var small []*client
				for user := range strings.SplitSeq("abcdefghij", "") {
					c := b.stalled(user)
					b.fillQueue(realtime.ToUser(user), 5, 1000)
					small = append(small, c)
				}
				largest := b.stalled("largest")
				synctest.Wait()
				b.fillQueue(realtime.ToUser("largest"), 10, 200_000)
				require.Greater(t, b.Stats().QueuedBytes, int64(2_000_000))
				time.Sleep(time.Second)
				synctest.Wait()
				ended := b.Stats().Ended
				if budget < 0 {
					require.Zero(t, ended)
				} else {
					require.Equal(t, realtime.EndedStats{Slow: 1}, ended)
					require.Less(t, b.Stats().QueuedBytes, int64(1<<20))
					largest.unstall()
					largest.requireEnd(realtime.CloseSlow)
					require.Equal(t, "server is short of memory", largest.end.Reason)
				}
				for _, c := range small {
					require.NoError(t, c.conn.Context().Err())
					c.unstall()
					require.Len(t, c.got(), 1+1+5, "welcome and all messages")
				}
			})
		})
	}
}

func TestReadersInTimeAreNotEnded(t *testing.T) {
	bubble(t, memoryOptions(100_000), func(t *testing.T, b *bed) {
		c := b.stalled("busy")
		time.Sleep(50 * time.Millisecond) // between two ticks of the timer wheel
		b.fillQueue(realtime.ToAll(), 10, 20_000)
		require.Greater(t, b.Stats().QueuedBytes, int64(100_000))
		time.Sleep(90 * time.Millisecond)
		c.unstall()
		time.Sleep(time.Minute)
		require.Zero(t, b.Stats().Ended)
		require.Len(t, c.got(), 1+1+10)

		// the budget is checked again
		stuck := b.stalled("stuck")
		b.fillQueue(realtime.ToUser("stuck"), 10, 20_000)
		time.Sleep(time.Second)
		require.Error(t, stuck.conn.Context().Err())
		require.NoError(t, c.conn.Context().Err())
	})
}

// A shared frame is freed with its last holder, so each holder counts a part of it. A connection
// with fewer bytes that are not shared is ended first.
func TestSharedFramesWeighLess(t *testing.T) {
	bubble(t, memoryOptions(1_500_000), func(t *testing.T, b *bed) {
		var members []*client
		for range 50 {
			c := b.stalled("")
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
			members = append(members, c)
		}
		loner := b.stalled("loner")
		b.fillQueue(realtime.ToRoom("hall"), 10, 100_000)
		b.fillQueue(realtime.ToUser("loner"), 15, 20_000)
		require.Zero(t, b.Stats().Ended.Slow)
		b.news(realtime.ToRoom("hall"), strings.Repeat("x", 30_000))
		time.Sleep(time.Second)
		require.Error(t, loner.conn.Context().Err())
		for _, c := range members {
			require.NoError(t, c.conn.Context().Err())
		}
	})
}

// The members of one room exceed the budget together. They are ended in steps: a member that starts
// to read meanwhile stays.
func TestSharedQueuesAreEndedStepByStep(t *testing.T) {
	bubble(t, memoryOptions(800_000), func(t *testing.T, b *bed) {
		var members []*client
		for range 100 {
			c := b.stalled("")
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
			members = append(members, c)
		}
		b.fillQueue(realtime.ToRoom("hall"), 10, 100_000) // two fifths more than the target
		var slow uint64
		for slow == 0 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			slow = b.Stats().Ended.Slow
		}
		require.InDelta(t, 40, slow, 3)
		for _, c := range members {
			c.unstall()
		}
		time.Sleep(time.Minute)
		require.Equal(t, realtime.EndedStats{Slow: slow}, b.Stats().Ended)
	})
	bubble(t, memoryOptions(800_000), func(t *testing.T, b *bed) {
		for range 100 {
			c := b.stalled("")
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
		}
		b.fillQueue(realtime.ToRoom("hall"), 10, 100_000)
		time.Sleep(time.Minute)
		require.EqualValues(t, 100, b.Stats().Ended.Slow, "a frame is freed with its last holder")
		require.Zero(t, b.Stats().QueuedBytes)
	})
}

// The last write of an ended connection is about to be freed, so no other connection is ended in
// place of it.
func TestLastWriteOfAnEndedConnection(t *testing.T) {
	bubble(t, memoryOptions(450_000), func(t *testing.T, b *bed) {
		users := strings.Split("abcd", "")
		for _, user := range append(users, "largest") {
			b.stalled(user)
			b.news(realtime.ToUser(user), strings.Repeat("x", 64<<10))
			synctest.Wait()
			b.news(realtime.ToUser(user), strings.Repeat("x", 20_000)) // its write blocks
			synctest.Wait()
		}
		for _, user := range users {
			b.news(realtime.ToUser(user), strings.Repeat("x", 60_000))
		}
		b.news(realtime.ToUser("largest"), strings.Repeat("x", 200_000))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 1, b.Stats().Ended.Slow)
		require.Greater(t, b.Stats().QueuedBytes, int64(340_000), "its write has not returned")
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, b.Stats().Ended.Slow)
	})
}

func TestMemoryPressureRefusesConnections(t *testing.T) {
	o := memoryOptions(100_000)
	o.Show, o.AnnounceUsers = realtime.ShowMembers, true
	bubble(t, o, func(t *testing.T, b *bed) {
		get := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ws", nil))
			return w
		}
		alice := b.open("alice")
		stuck := b.stalled("stuck")
		require.Equal(t, http.StatusUpgradeRequired, get().Code)
		alice.discard()
		b.fillQueue(realtime.ToUser("stuck"), 10, 20_000)

		w := get()
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), "short of memory")
		require.EqualValues(t, 1, b.Stats().RefusedLimit)
		require.ErrorIs(t, b.dial("bob").err, realtime.ErrOverloaded)
		_, err := b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.Empty(t, alice.got(), "notices are dropped")
		require.EqualValues(t, 1, b.Stats().DroppedNotices)
		alice.say("hello", "all")
		require.Equal(t, []string{"alice: hello"}, alice.got(), "messages are not")

		time.Sleep(3 * time.Second) // the bytes that are being written are freed with the socket
		require.Error(t, stuck.conn.Context().Err())
		require.Equal(t, http.StatusUpgradeRequired, get().Code)
		bob := b.open("bob")
		b.join("hall", bob)
		require.Contains(t, alice.got(), "bob in hall")
	})
}

// Each way to queue bytes for a connection counts in the budget.
func TestMemoryBudgetCountsAllQueues(t *testing.T) {
	var b *bed
	o := announced()
	o.Timeouts.Ping = -1
	greeting := int64(0)
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		greeting = b.Stats().QueuedBytes
		return nil
	}
	bubble(t, o, func(t *testing.T, bb *bed) {
		b = bb
		stuck := b.stalled("stuck")
		require.Positive(t, greeting, "welcome")
		reader := b.open("reader")
		b.join("hall", reader)
		b.fillQueue(realtime.ToUser("stuck"), 1, 64<<10)
		before := b.Stats().QueuedBytes
		grows := func(what string) {
			t.Helper()
			synctest.Wait()
			now := b.Stats().QueuedBytes
			require.Greater(t, now, before, what)
			require.Less(t, now, before+1000, what)
			before = now
		}
		b.news(realtime.ToConn(stuck.conn.ID()), "x")
		grows("a message")
		require.NoError(t, stuck.Write([]byte("ping")))
		grows("an answer")
		b.open("visitor")
		grows("a user's coming")
		_, err := b.Join(t.Context(), stuck.conn.ID(), "hall")
		require.NoError(t, err)
		grows("its own joining")
		_, err = b.Leave(t.Context(), reader.conn.ID(), "hall")
		require.NoError(t, err)
		grows("a member's leaving")

		tab := b.stalled("stuck")
		synctest.Wait()
		b.news(realtime.ToConn(tab.conn.ID()), strings.Repeat("x", 64<<10))
		synctest.Wait()
		b.news(realtime.ToConn(tab.conn.ID()), "its write blocks")
		synctest.Wait()
		before = b.Stats().QueuedBytes
		_, err = b.Join(t.Context(), tab.conn.ID(), "hall")
		require.NoError(t, err)
		grows("its user's further joining")
		stuck.unstall()
		tab.unstall()
		synctest.Wait()
		require.Zero(t, b.Stats().QueuedBytes)
	})
}

// The connections that would take longest to read their queue are ended first, not those with the
// longest queue. Some memory stays free, so no new connection is refused meanwhile.
func TestTheSlowestIsEndedFirst(t *testing.T) {
	bubble(t, memoryOptions(4<<20), func(t *testing.T, b *bed) {
		fast := b.stalled("fast")
		b.fillQueue(realtime.ToUser("fast"), 10, 100_000)
		var slow []*client
		for i := range 30 {
			user := fmt.Sprint("slow", i)
			slow = append(slow, b.stalled(user))
			b.fillQueue(realtime.ToUser(user), 1, 100_000)
		}
		require.False(t, b.Stats().MemoryBytes > 4<<20, "the budget is not used up")
		// one message at a time: a megabyte takes two seconds, so the shortage lasts until a
		// connection is ended
		fast.pace(200 * time.Millisecond)
		time.Sleep(10 * time.Second)
		require.NoError(t, fast.conn.Context().Err(), "the longest queue, but it is read")
		require.Len(t, fast.got(), 1+1+10)
		ended := 0
		for _, c := range slow {
			if c.conn.Context().Err() != nil {
				ended++
			}
		}
		require.Positive(t, ended)
		require.Less(t, b.Stats().MemoryBytes, int64(4<<20)/4*3+1)
		b.open("newcomer")
	})
}

// Unread answers have a part of the budget. A client that asks for more waits, and the clients with
// most unread answers are ended. No other connection is refused or ended.
func TestUnreadAnswersAreBounded(t *testing.T) {
	o := memoryOptions(8 << 20) // 2 MiB for answers
	o.Limits.Conns, o.Show = -1, realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		b.fillRoom("hall", 1000, realtime.V1) // a list of 200 KiB
		reader := b.openV1(realtime.Identity{UserID: "reader"})
		reader.discard()
		const ask = `{"type":"presence","id":1,"room":"hall"}`
		for round := range 20 {
			for i := range 10 {
				transport, far := realtime.Pipe(realtime.V1)
				c := b.attach(transport, far, realtime.Identity{UserID: fmt.Sprint("mallory", round, i)})
				require.NoError(t, c.err)
				for range 5 {
					require.NoError(t, c.Write([]byte(ask)))
				}
			}
			synctest.Wait()
			require.Less(t, b.Stats().MemoryBytes, int64(4<<20), "round %d", round)
		}
		require.Len(t, reader.request(ask), 0, "it waits for its turn")
		for i := range 100 { // clients that start to wait later do not delay it
			transport, far := realtime.Pipe(realtime.V1)
			c := b.attach(transport, far, realtime.Identity{UserID: fmt.Sprint("late", i)})
			require.NoError(t, c.err)
			require.NoError(t, c.Write([]byte(ask)))
			time.Sleep(50 * time.Millisecond)
			c.Drop()
		}
		require.Len(t, reader.raw(), 1, "the answer arrives")
		require.NoError(t, reader.conn.Context().Err())
		require.Positive(t, b.Stats().Ended.Slow)
		require.Zero(t, b.Stats().RefusedLimit)
	})
}

// No connection that reads is ended because of the memory of detached sessions.
func TestDetachedSessionsEndNoConnection(t *testing.T) {
	o := memoryOptions(2 << 20)
	o.Limits.Conns, o.Timeouts.Resume = -1, time.Hour
	bubble(t, o, func(t *testing.T, b *bed) {
		var rooms []string
		for room := range 90 {
			rooms = append(rooms, fmt.Sprint("room ", room))
		}
		reader := b.stalled("reader")
		reader.pace(100 * time.Millisecond)
		for i := range 150 { // 25 KiB each
			c, _ := b.session(fmt.Sprint("mallory", i))
			b.joinAll(c, rooms...)
			c.Drop()
			synctest.Wait()
		}
		for range 10 {
			for range 20 {
				b.news(realtime.ToUser("reader"), strings.Repeat("x", 10_000))
			}
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		require.NoError(t, reader.conn.Context().Err(), "it reads at the rate of the messages")
		b.open("newcomer")
	})
}

// Detached sessions count in the memory budget and use a quarter of it at most. No new connection
// is refused because of them.
func TestDetachedSessionsCountInTheBudget(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{MemoryBytes: 100_000, Conns: -1}}, func(t *testing.T, b *bed) {
		lose := func(n int) {
			for i := range n {
				c, _ := b.session(fmt.Sprint("user", n, " ", i))
				for room := range 20 {
					_, err := b.Join(t.Context(), c.conn.ID(), fmt.Sprint("room ", room))
					require.NoError(t, err)
				}
				c.Drop()
				synctest.Wait()
			}
		}
		lose(3)
		require.Equal(t, 3, b.Stats().Users)
		require.InDelta(t, 3*(2048+20*256), b.Stats().MemoryBytes, 100)
		lose(100)
		alice, w := b.session("alice") // the client detects the loss before the server
		b.join("hall", alice)
		again, _ := b.session("alice")
		require.Equal(t, rooms("hall"), again.resumes(w.Session), "it does not wait")
		again.Close(realtime.CloseNormal, "")
		synctest.Wait()
		require.Less(t, b.Stats().MemoryBytes, int64(100_000), "new connections are accepted")
		require.InDelta(t, 100_000/4/(2048+20*256), b.Stats().Users, 2)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Zero(t, b.Stats().MemoryBytes)
	})
}

// An incomplete message, compressed or not, counts in the memory budget until it is complete or its
// connection ends.
func TestIncompleteMessagesCountInTheBudget(t *testing.T) {
	o := compressing()
	o.Timeouts.Ping = -1
	s := newTestServer(t, o, false)
	text := strings.Repeat("x", 60<<10)
	for name, test := range map[string]struct {
		headers, begin, rest string
		bytes                int64
	}{
		"compressed": {
			headers: offerLine,
			begin:   masked(0x41, deflate(t, text)[:60]), rest: masked(0x80, deflate(t, text)[60:]),
			bytes: 48 << 10,
		},
		"plain": {begin: masked(0x01, text[:50<<10]), rest: masked(0x80, text[50<<10:]), bytes: 50 << 10},
		"short": {begin: "\x81", rest: masked(0x81, "ping")[1:], bytes: 8 << 10},
		"ping":  {begin: "\x89", rest: masked(0x89, "")[1:], bytes: 8 << 10},
		"ping to the library": {
			headers: offerLine,
			begin:   "\x89", rest: masked(0x89, "")[1:], bytes: 8 << 10,
		},
	} {
		c, _ := s.rawDialWith(t, "bob", test.headers, "") // without an offer it is read directly
		require.Eventually(t, func() bool { return s.rt.Stats().MemoryBytes == 0 }, patience, time.Millisecond, name)
		_, err := c.Write([]byte(test.begin))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.rt.Stats().MemoryBytes >= test.bytes }, patience, time.Millisecond, name)
		_, err = c.Write([]byte(test.rest))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.rt.Stats().MemoryBytes == 0 }, patience, time.Millisecond, name)
		_, err = c.Write([]byte(test.begin))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.rt.Stats().MemoryBytes >= test.bytes }, patience, time.Millisecond, name)
		require.NoError(t, c.Close())
		require.Eventually(t, func() bool { return s.rt.Stats().MemoryBytes == 0 }, patience, time.Millisecond, name)
	}
}
