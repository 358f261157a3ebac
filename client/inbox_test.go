package client_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// cursor is an inbox that has been acknowledged up to an offset.
func cursor(offset int) string {
	return fmt.Sprintf(`,"inbox":{"epoch":"i1","offset":%d,"top":%d}`, offset, offset)
}

func ack(offset int) string { return fmt.Sprintf(`{"type":"ack","offset":%d,"epoch":"i1"}`, offset) }

// A message is acknowledged when the loop asks for the next one, and one request at a time.
func TestAck(t *testing.T) {
	var acks []string
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.inboxed(5, 3, 6, 5, 8, 6)
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			if a.Type == "ack" {
				acks = append(acks, fmt.Sprint(a.Offset))
				if a.Offset == 5 {
					s.hears() // a ping in between
				}
			}
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		var got []string
		for m, err := range alice.Messages() {
			synctest.Wait()
			got = append(got, shorthand(m, err))
			switch len(got) {
			case 1:
				require.Empty(t, acks)
			case 2:
				require.Equal(t, []string{"5"}, acks)
			}
			if len(got) == 3 {
				break
			}
		}
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 8"}, got)
		go func() { _, _ = alice.Ping(t.Context()) }()
		synctest.Wait()
		require.Equal(t, []string{"5", "6"}, acks, "the loop was left at the third")
		alice.listen()
		require.Empty(t, alice.got())
		require.Equal(t, []string{"5", "6", "8"}, acks)
	})
}

// What has been taken when the client is closed does not come again, however quick it was.
func TestCloseAcknowledges(t *testing.T) {
	bubble(t, realtime.Options{Inbox: realtime.InboxOptions{Keep: realtime.Retention{Messages: 100}}}, func(t *testing.T, w *world) {
		for i := range 100 {
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{Content: fmt.Append(nil, i)})
			require.NoError(t, err)
		}
		for n := 0; n < 99; n += 24 {
			alice := w.deaf("alice", client.DialOptions{})
			for i := n; i < min(n+25, 100); i++ {
				m, err := alice.Receive(t.Context())
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(i), string(m.Content), "only the last one comes again")
			}
			require.NoError(t, alice.Close())
			synctest.Wait()
		}
	})
}

// Receive says by being called that what it returned before has been taken.
func TestAckOfReceive(t *testing.T) {
	var acks []int
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.inboxed(5, 3, 6, 5)
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		for _, want := range [][]int{nil, {5}} {
			_, err := alice.Receive(t.Context())
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, want, acks)
		}
	})
}

// Two loops: what one has is not acknowledged because the other one asks for more.
func TestAckOfTwoLoops(t *testing.T) {
	var acks []int
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.inboxed(5, 3, 6, 5, 7, 6)
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		synctest.Wait()
		held := make(chan struct{})
		alice.read.Go(func() {
			for range alice.Messages() {
				<-held
			}
		})
		synctest.Wait()
		alice.listen()
		require.Equal(t, []string{"bob: 6", "bob: 7"}, alice.got())
		require.Empty(t, acks, "the first one is not done")
		close(held)
		synctest.Wait()
		require.Equal(t, []int{7}, acks)
	})
}

// What was not acknowledged before the connection ended comes again, is dropped, and acknowledged.
func TestAckOverConnections(t *testing.T) {
	served(t, greeted(t, func(n int) string { return cursor([]int{3, 3, 7}[n-1]) }, func(s *stage, n int) {
		switch n {
		case 1:
			s.inboxed(5, 3, 6, 5)
			s.expects(ack(5)) // is not answered
		case 2:
			s.inboxed(5, 3, 6, 5, 7, 6)
			last := s.expects(ack(6))
			for last.Offset < 7 {
				s.replies(last)
				last = s.hears()
			}
		default:
			s.inboxed(8, 7)
			s.replies(s.expects(ack(8)))
			s.lasts()
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.back()
		alice.back()
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7", "bob: 8"}, alice.got(), "and no gap")
	})
}

// An inbox that is another one is a gap, and so is what is missing in it.
func TestGapsOfTheInbox(t *testing.T) {
	inbox := func(n int) string { return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":0}`, n) }
	served(t, greeted(t, inbox, func(s *stage, n int) {
		if n == 1 {
			s.inboxed(2, 0)
			s.hears()
			return
		}
		s.keptIn("", "i2", 1, 0, 4, 3)
		s.says(`{"message_type":"position","offset":6,"epoch":"i2"}`)
		s.keptIn("", "i2", 7, 6)
		s.says(`{"message_type":"position","offset":9,"epoch":"i2","recovered":false,"reason":"overflow"}`)
		s.keptIn("", "i2", 10, 9)
		s.says(`{"message_type":"skipped","from":10,"to":12,"epoch":"i2","reason":"slow"}`)
		s.keptIn("", "i2", 13, 12)
		s.keptIn("", "i3", 3, 2)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.back()
		require.Equal(t, []string{
			"bob: 2", "gap  epoch 2-0", "bob: 1", "gap  unknown 1-3", "bob: 4", "bob: 7",
			"gap  overflow 7-9", "bob: 10", "gap  slow 10-12", "bob: 13", "gap  epoch 13-2", "bob: 3",
		}, alice.got())
	})
}

// To be done with a message of another inbox says nothing about this one.
func TestAckOfAnotherInbox(t *testing.T) {
	var acks []int
	inbox := func(n int) string {
		return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":0}`, n)
	}
	served(t, greeted(t, inbox, func(s *stage, n int) {
		s.keptIn("", fmt.Sprint("i", n), 2, 0)
		for a := s.hears(); n > 1 && a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		for i, want := range []string{"bob: 2", "gap  epoch 2-0", "bob: 2"} {
			msg, err := alice.Receive(t.Context())
			require.Equal(t, want, shorthand(msg, err))
			if i == 0 {
				w.cut()
				alice.back()
			}
			synctest.Wait()
			require.Empty(t, acks)
		}
	})
}

// A message that is known by its id is not shown again, but acknowledged.
func TestAckOfDuplicates(t *testing.T) {
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.chats("m", "hi")
		s.says(`{"message_type":"chat","sender_id":"bob","content":5,"id":"m",` +
			`"offset":5,"prev":3,"epoch":"i1"}`)
		s.replies(s.expects(ack(5)))
		s.lasts()
	}), func(t *testing.T, w *world) {
		require.Equal(t, []string{`bob@lobby: "hi"`}, w.dial("alice").got())
	})
}

// What is not for the client is acknowledged as if it had been.
func TestAckOfPositions(t *testing.T) {
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.says(`{"message_type":"position","offset":7,"epoch":"i1"}`)
		s.replies(s.expects(ack(7)))
		s.lasts()
	}), func(t *testing.T, w *world) {
		require.Empty(t, w.dial("alice").got())
	})
}

// Another client of the user may have acknowledged more.
func TestInboxOfTwoClients(t *testing.T) {
	served(t, greeted(t, func(n int) string { return cursor(3 * n) }, func(s *stage, n int) {
		if n > 1 {
			s.inboxed(8, 6)
			s.replies(s.expects(ack(8)))
			s.lasts()
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.back()
		require.Equal(t, []string{"bob: 8"}, alice.got())
	})
}

// What the server refuses is not asked for again and again.
func TestAckRefused(t *testing.T) {
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.inboxed(5, 3)
		s.refuses(s.expects(ack(5)), "position")
		s.inboxed(6, 5)
		s.refuses(s.expects(ack(6)), "internal")
		s.inboxed(7, 6)
		s.replies(s.expects(ack(6)))
		s.replies(s.expects(ack(7)))
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7"}, alice.got())
	})
}

// What a consumer that is behind has no room for comes again over the next connection.
func TestSlowConsumerOfTheInbox(t *testing.T) {
	var acked atomic.Int64
	served(t, greeted(t, func(int) string { return cursor(int(acked.Load())) }, func(s *stage, _ int) {
		for at := int(acked.Load()); at < 9; at++ {
			s.inboxed(at+1, at)
		}
		s.says(`{"message_type":"position","offset":9,"epoch":"i1"}`) // it is not there yet
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			acked.Store(int64(a.Offset))
			s.tries(fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID))
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 4})
		for offset := 1; offset <= 9; offset++ {
			synctest.Wait()
			msg, err := alice.Receive(t.Context())
			require.Equal(t, fmt.Sprint("bob: ", offset), shorthand(msg, err))
		}
		synctest.Wait()
		require.EqualValues(t, 8, acked.Load())
		require.Zero(t, alice.longest(), "nobody else is waited for")
	})
}

// An acknowledgement that is on its way when the inbox begins anew says nothing about the new one.
func TestAckAsTheInboxBeginsAnew(t *testing.T) {
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.inboxed(5, 3)
		old := s.expects(ack(5))
		s.keptIn("", "i2", 1, 0)
		s.replies(old)
		s.replies(s.expects(`{"type":"ack","offset":1,"epoch":"i2"}`))
		s.lasts()
	}), func(t *testing.T, w *world) {
		require.Equal(t, []string{"bob: 5", "gap  epoch 5-0", "bob: 1"}, w.dial("alice").got())
	})
}

// The server may have lost what the client has got already: then nothing is missing.
func TestInboxIsTrimmed(t *testing.T) {
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, n int) {
		if n == 1 {
			s.inboxed(5, 3, 6, 5, 7, 6)
			s.hears()
			return
		}
		s.says(`{"message_type":"position","offset":6,"epoch":"i1","recovered":false,"reason":"overflow"}`)
		s.inboxed(7, 6, 8, 7)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		synctest.Wait()
		w.cut()
		alice.back()
		alice.listen()
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7", "bob: 8"}, alice.got())
	})
}

// What comes again in another life of the inbox is not acknowledged while it waits for the
// application.
func TestAckOfWhatComesAgainAnew(t *testing.T) {
	var acks []int
	inbox := func(n int) string { return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":2}`, n) }
	served(t, greeted(t, inbox, func(s *stage, n int) {
		s.says(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":2,"id":"m",`+
			`"offset":2,"prev":0,"epoch":"i%d"}`, n))
		for a := s.hears(); n > 1 && a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		synctest.Wait()
		w.cut()
		alice.back()
		for i, want := range []string{"bob: 2", "gap  epoch 2-0"} {
			synctest.Wait()
			require.Empty(t, acks, "%d: the application is not done with it", i)
			msg, err := alice.Receive(t.Context())
			require.Equal(t, want, shorthand(msg, err))
		}
		synctest.Wait()
		require.Equal(t, []int{2}, acks)
	})
}

// A consumer that is behind has not broken down with what he works on.
func TestSlowConsumerHasNotBrokenDown(t *testing.T) {
	var aside atomic.Int64
	bubble(t, realtime.Options{Inbox: realtime.InboxOptions{
		Keep:       realtime.Retention{Messages: 100},
		OnSetAside: func(context.Context, string, realtime.Message) { aside.Add(1) },
	}}, func(t *testing.T, w *world) {
		for i := range 60 {
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{
				Type: "chat", Content: fmt.Append(nil, i),
			})
			require.NoError(t, err)
		}
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 8})
		busy := make(chan struct{})
		defer close(busy)
		alice.read.Go(func() {
			for range alice.Messages() {
				<-busy
			}
		})
		synctest.Wait()
		alice.listen()
		time.Sleep(time.Minute)
		require.Len(t, alice.got(), 59)
		require.Zero(t, aside.Load())
		require.NotZero(t, w.rt.Stats().Resumed)
	})
}

// A message to the user and to a room is given once, and acknowledged when the application is done
// with the one that it got.
func TestAckOfACopy(t *testing.T) {
	var acks []int
	both := func(s *stage, place string, offset, prev int) {
		s.says(fmt.Sprintf(`{"message_type":"chat","sender_id":null,"content":"both","timestamp":1,"id":"m",%s`+
			`"offset":%d,"prev":%d}`, place, offset, prev))
	}
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.chats("x", "before")
		both(s, `"room":"lobby","epoch":"r1",`, 1, 0)
		both(s, `"epoch":"i1",`, 5, 3)
		s.chats("y", "behind")
		s.inboxed(6, 5)
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		for _, want := range []struct {
			message string
			acks    []int // before it is asked for
		}{
			{`bob@lobby: "before"`, nil}, {`@lobby: "both"`, nil}, {`bob@lobby: "behind"`, []int{5}},
			{`bob: 6`, []int{5}}, {"", []int{5, 6}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			m, err := alice.Receive(ctx)
			cancel()
			if want.message != "" {
				require.Equal(t, want.message, shorthand(m, err))
			}
			synctest.Wait()
			require.Equal(t, want.acks, acks, want.message)
		}
	})
}

// A copy that comes when the application is done with the message is done with too.
func TestAckOfALateCopy(t *testing.T) {
	var acks []int
	served(t, greeted(t, func(int) string { return cursor(3) }, func(s *stage, _ int) {
		s.chats("m", "both")
		s.hears() // a ping: it has been taken
		s.says(`{"message_type":"chat","sender_id":"bob","content":1,"id":"m","offset":5,"prev":3,"epoch":"i1"}`)
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			acks = append(acks, a.Offset)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		require.Equal(t, []string{`bob@lobby: "both"`}, alice.got())
		go func() { _, _ = alice.Ping(t.Context()) }()
		require.Empty(t, alice.got())
		require.Equal(t, []int{5}, acks)
	})
}
