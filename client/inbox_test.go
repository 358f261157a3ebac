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

// cursor returns the part of a welcome with an inbox that is acknowledged up to an offset.
func cursor(offset int) string {
	return fmt.Sprintf(`,"inbox":{"epoch":"i1","offset":%d,"top":%d}`, offset, offset)
}

// cursor3 is cursor(3) for all connections.
func cursor3(int) string { return cursor(3) }

func ack(offset int) string { return fmt.Sprintf(`{"type":"ack","offset":%d,"epoch":"i1"}`, offset) }

// TestAck tests that a message is acknowledged when the loop asks for the next one, with one
// request at a time.
func TestAck(t *testing.T) {
	var acks []string
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendInbox(5, 3, 6, 5, 8, 6)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			if a.Type == "ack" {
				acks = append(acks, fmt.Sprint(a.Offset))
				if a.Offset == 5 {
					s.receive() // a ping that arrives meanwhile
				}
			}
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		var got []string
		for m, err := range alice.Messages() {
			synctest.Wait()
			got = append(got, describe(m, err))
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
		require.Equal(t, []string{"5", "6"}, acks, "the loop ended at the third message")
		alice.startReading()
		require.Empty(t, alice.received())
		require.Equal(t, []string{"5", "6", "8"}, acks)
	})
}

// TestCloseSendsAck tests that processed messages are not delivered again after Close, even if they
// were processed just before it.
func TestCloseSendsAck(t *testing.T) {
	withManager(t, inboxOptions(), func(t *testing.T, w *testEnv) {
		for i := range 100 {
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{Content: fmt.Append(nil, i)})
			require.NoError(t, err)
		}
		for n := 0; n < 99; n += 24 {
			alice := w.dialPaused("alice", client.DialOptions{})
			for i := n; i < min(n+25, 100); i++ {
				m, err := alice.Receive(t.Context())
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(i), string(m.Content), "only the last message is delivered again")
			}
			require.NoError(t, alice.Close())
			synctest.Wait()
		}
	})
}

// TestAckByReceive tests that a call of Receive acknowledges the message that the previous call
// returned.
func TestAckByReceive(t *testing.T) {
	var acks []int
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendInbox(5, 3, 6, 5)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		for _, want := range [][]int{nil, {5}} {
			_, err := alice.Receive(t.Context())
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, want, acks)
		}
	})
}

// TestAckWithTwoLoops tests that the message of one loop is not acknowledged when another loop asks
// for the next one.
func TestAckWithTwoLoops(t *testing.T) {
	var acks []int
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendInbox(5, 3, 6, 5, 7, 6)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		synctest.Wait()
		held := make(chan struct{})
		alice.reading.Go(func() {
			for range alice.Messages() {
				<-held
			}
		})
		synctest.Wait()
		alice.startReading()
		require.Equal(t, []string{"bob: 6", "bob: 7"}, alice.received())
		require.Empty(t, acks, "the first message is not processed")
		close(held)
		synctest.Wait()
		require.Equal(t, []int{7}, acks)
	})
}

// TestAckOverConnections tests that messages that were not acknowledged before the connection ended
// are dropped when they arrive again, and acknowledged.
func TestAckOverConnections(t *testing.T) {
	inbox := func(n int) string { return cursor([]int{3, 3, 7}[n-1]) }
	withHandler(t, scriptedWith(t, inbox, func(s *script, n int) {
		switch n {
		case 1:
			s.sendInbox(5, 3, 6, 5)
			s.expect(ack(5)) // not answered
		case 2:
			s.sendInbox(5, 3, 6, 5, 7, 6)
			last := s.expect(ack(6))
			for last.Offset < 7 {
				s.replyEmpty(last)
				last = s.receive()
			}
		default:
			s.sendInbox(8, 7)
			s.replyEmpty(s.expect(ack(8)))
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7", "bob: 8"}, alice.received(), "no gap")
	})
}

// TestInboxGaps tests that a new epoch of the inbox and missing messages are reported as gaps.
func TestInboxGaps(t *testing.T) {
	inbox := func(n int) string { return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":0}`, n) }
	withHandler(t, scriptedWith(t, inbox, func(s *script, n int) {
		if n == 1 {
			s.sendInbox(2, 0)
			s.receive()
			return
		}
		s.sendKeptIn("", "i2", 1, 0, 4, 3)
		s.send(`{"message_type":"position","offset":6,"epoch":"i2"}`)
		s.sendKeptIn("", "i2", 7, 6)
		s.send(`{"message_type":"position","offset":9,"epoch":"i2","recovered":false,"reason":"overflow"}`)
		s.sendKeptIn("", "i2", 10, 9)
		s.send(`{"message_type":"skipped","from":10,"to":12,"epoch":"i2","reason":"slow"}`)
		s.sendKeptIn("", "i2", 13, 12)
		s.sendKeptIn("", "i3", 3, 2)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		require.Equal(t, []string{
			"bob: 2", "gap  epoch 2-0", "bob: 1", "gap  unknown 1-3", "bob: 4", "bob: 7",
			"gap  overflow 7-9", "bob: 10", "gap  slow 10-12", "bob: 13", "gap  epoch 13-2", "bob: 3",
		}, alice.received())
	})
}

// TestAckOfAnotherInbox tests that processing a message of the previous inbox acknowledges nothing
// in the new one.
func TestAckOfAnotherInbox(t *testing.T) {
	var acks []int
	inbox := func(n int) string {
		return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":0}`, n)
	}
	withHandler(t, scriptedWith(t, inbox, func(s *script, n int) {
		s.sendKeptIn("", fmt.Sprint("i", n), 2, 0)
		for a := s.receive(); n > 1 && a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		for i, want := range []string{"bob: 2", "gap  epoch 2-0", "bob: 2"} {
			msg, err := alice.Receive(t.Context())
			require.Equal(t, want, describe(msg, err))
			if i == 0 {
				w.cutAll()
				alice.awaitReconnect()
			}
			synctest.Wait()
			require.Empty(t, acks)
		}
	})
}

// TestAckOfDuplicates tests that an inbox message whose ID was already received is dropped and
// acknowledged.
func TestAckOfDuplicates(t *testing.T) {
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendChat("m", "hi")
		s.send(`{"message_type":"chat","sender_id":"bob","content":5,"id":"m",` +
			`"offset":5,"prev":3,"epoch":"i1"}`)
		s.replyEmpty(s.expect(ack(5)))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		require.Equal(t, []string{`bob@lobby: "hi"`}, w.dial("alice").received())
	})
}

// TestAckOfPositionFrames tests that messages that are not for the client are acknowledged.
func TestAckOfPositionFrames(t *testing.T) {
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.send(`{"message_type":"position","offset":7,"epoch":"i1"}`)
		s.replyEmpty(s.expect(ack(7)))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		require.Empty(t, w.dial("alice").received())
	})
}

// TestInboxOfTwoClients tests that a client continues after messages that another client of the
// user has acknowledged.
func TestInboxOfTwoClients(t *testing.T) {
	inbox := func(n int) string { return cursor(3 * n) }
	withHandler(t, scriptedWith(t, inbox, func(s *script, n int) {
		if n > 1 {
			s.sendInbox(8, 6)
			s.replyEmpty(s.expect(ack(8)))
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		require.Equal(t, []string{"bob: 8"}, alice.received())
	})
}

// TestAckRefused tests that a refused acknowledgement is not repeated until there is a new reason.
func TestAckRefused(t *testing.T) {
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendInbox(5, 3)
		s.replyError(s.expect(ack(5)), "position")
		s.sendInbox(6, 5)
		s.replyError(s.expect(ack(6)), "internal")
		s.sendInbox(7, 6)
		s.replyEmpty(s.expect(ack(6)))
		s.replyEmpty(s.expect(ack(7)))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7"}, alice.received())
	})
}

// TestSlowInboxConsumer tests that inbox messages that do not fit into the queue arrive again over
// the next connection.
func TestSlowInboxConsumer(t *testing.T) {
	var acked atomic.Int64
	inbox := func(int) string { return cursor(int(acked.Load())) }
	withHandler(t, scriptedWith(t, inbox, func(s *script, _ int) {
		for at := int(acked.Load()); at < 9; at++ {
			s.sendInbox(at+1, at)
		}
		s.send(`{"message_type":"position","offset":9,"epoch":"i1"}`) // has no effect before the messages
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			acked.Store(int64(a.Offset))
			s.trySend(fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID))
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 4})
		for offset := 1; offset <= 9; offset++ {
			synctest.Wait()
			msg, err := alice.Receive(t.Context())
			require.Equal(t, fmt.Sprint("bob: ", offset), describe(msg, err))
		}
		synctest.Wait()
		require.EqualValues(t, 8, acked.Load())
		require.Zero(t, alice.longestWait(), "the client reconnects at once")
	})
}

// TestAckOfPreviousEpoch tests that the answer to an acknowledgement of the previous epoch does not
// count for the new one.
func TestAckOfPreviousEpoch(t *testing.T) {
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendInbox(5, 3)
		old := s.expect(ack(5))
		s.sendKeptIn("", "i2", 1, 0)
		s.replyEmpty(old)
		s.replyEmpty(s.expect(`{"type":"ack","offset":1,"epoch":"i2"}`))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		require.Equal(t, []string{"bob: 5", "gap  epoch 5-0", "bob: 1"}, w.dial("alice").received())
	})
}

// TestInboxIsTrimmed tests that no gap is reported if the server has lost only messages that the
// client has received.
func TestInboxIsTrimmed(t *testing.T) {
	withHandler(t, scriptedWith(t, cursor3, func(s *script, n int) {
		if n == 1 {
			s.sendInbox(5, 3, 6, 5, 7, 6)
			s.receive()
			return
		}
		s.send(`{"message_type":"position","offset":6,"epoch":"i1","recovered":false,"reason":"overflow"}`)
		s.sendInbox(7, 6, 8, 7)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		synctest.Wait()
		w.cutAll()
		alice.awaitReconnect()
		alice.startReading()
		require.Equal(t, []string{"bob: 5", "bob: 6", "bob: 7", "bob: 8"}, alice.received())
	})
}

// TestAckOfRedeliveryInNewEpoch tests that a message that arrives again in a new epoch is not
// acknowledged while it waits for the application.
func TestAckOfRedeliveryInNewEpoch(t *testing.T) {
	var acks []int
	inbox := func(n int) string { return fmt.Sprintf(`,"inbox":{"epoch":"i%d","offset":0,"top":2}`, n) }
	withHandler(t, scriptedWith(t, inbox, func(s *script, n int) {
		s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":2,"id":"m",`+
			`"offset":2,"prev":0,"epoch":"i%d"}`, n))
		for a := s.receive(); n > 1 && a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		synctest.Wait()
		w.cutAll()
		alice.awaitReconnect()
		for i, want := range []string{"bob: 2", "gap  epoch 2-0"} {
			synctest.Wait()
			require.Empty(t, acks, "%d: the message is not processed", i)
			msg, err := alice.Receive(t.Context())
			require.Equal(t, want, describe(msg, err))
		}
		synctest.Wait()
		require.Equal(t, []int{2}, acks)
	})
}

// TestSlowConsumerMakesNoDeadLetters tests that reconnects of a slow consumer do not count as
// failed attempts to process a message.
func TestSlowConsumerMakesNoDeadLetters(t *testing.T) {
	var aside atomic.Int64
	withManager(t, realtime.Options{Inbox: realtime.InboxOptions{
		Keep:         realtime.Retention{Messages: 100},
		OnDeadLetter: func(context.Context, string, realtime.Message) { aside.Add(1) },
	}}, func(t *testing.T, w *testEnv) {
		for i := range 60 {
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{
				Type: "chat", Content: fmt.Append(nil, i),
			})
			require.NoError(t, err)
		}
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 8})
		busy := make(chan struct{})
		defer close(busy)
		alice.reading.Go(func() {
			for range alice.Messages() {
				<-busy
			}
		})
		synctest.Wait()
		alice.startReading()
		time.Sleep(time.Minute)
		require.Len(t, alice.received(), 59)
		require.Zero(t, aside.Load())
		require.NotZero(t, w.rt.Stats().Resumed)
	})
}

// TestAckOfUnion tests that a message to a user and a room is delivered once, and is acknowledged
// when the application has processed it.
func TestAckOfUnion(t *testing.T) {
	var acks []int
	both := func(s *script, place string, offset, prev int) {
		s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":null,"content":"both","timestamp":1,"id":"m",%s`+
			`"offset":%d,"prev":%d}`, place, offset, prev))
	}
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendChat("x", "before")
		both(s, `"room":"lobby","epoch":"r1",`, 1, 0)
		both(s, `"epoch":"i1",`, 5, 3)
		s.sendChat("y", "after")
		s.sendInbox(6, 5)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		for _, want := range []struct {
			message string
			acks    []int // before this call of Receive
		}{
			{`bob@lobby: "before"`, nil}, {`@lobby: "both"`, nil}, {`bob@lobby: "after"`, []int{5}},
			{`bob: 6`, []int{5}}, {"", []int{5, 6}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			m, err := alice.Receive(ctx)
			cancel()
			if want.message != "" {
				require.Equal(t, want.message, describe(m, err))
			}
			synctest.Wait()
			require.Equal(t, want.acks, acks, want.message)
		}
	})
}

// TestAckOfLateCopy tests that a copy in the inbox is acknowledged if it arrives after the
// application has processed the message.
func TestAckOfLateCopy(t *testing.T) {
	var acks []int
	withHandler(t, scriptedWith(t, cursor3, func(s *script, _ int) {
		s.sendChat("m", "both")
		s.receive() // a ping, after which the message is processed
		s.send(`{"message_type":"chat","sender_id":"bob","content":1,"id":"m","offset":5,"prev":3,"epoch":"i1"}`)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			acks = append(acks, a.Offset)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.Equal(t, []string{`bob@lobby: "both"`}, alice.received())
		go func() { _, _ = alice.Ping(t.Context()) }()
		require.Empty(t, alice.received())
		require.Equal(t, []int{5}, acks)
	})
}
