package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestBadTextEndsOneConnection(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		bad, bystander := b.open("bad"), b.open("bystander")
		bystander.hush()
		require.NoError(t, bad.Write([]byte("{\"content\":\"\xff\",\"target\":\"all\"}")))
		bad.requireEnd(realtime.CloseText)
		require.Empty(t, bystander.got())
		require.Nil(t, bystander.ended())
	})
}

func TestMessageSizeLimit(t *testing.T) {
	frame := func(size int) []byte {
		head, tail := `{"target":"all","content":"`, `"}`
		return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
	}
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.hush()
		require.NoError(t, alice.Write(frame(64<<10)))
		require.Len(t, alice.got(), 1)
		require.NoError(t, alice.Write(frame(64<<10+1)))
		alice.requireEnd(realtime.CloseTooBig)
		require.Equal(t, "message is too large", alice.ended().Reason)
	})
	bubble(t, realtime.Options{MaxMessageBytes: -1}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.hush()
		require.NoError(t, alice.Write(frame(1<<20)))
		require.Len(t, alice.got(), 1)
	})
}

func TestFastClientWaitsAndLosesNothing(t *testing.T) {
	o := realtime.Options{InboundRate: 10} // and 100 at once
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		bob.hush()
		start := time.Now()
		for range 150 {
			alice.say("x", "bob")
		}
		require.Len(t, bob.got(), 100)
		time.Sleep(5*time.Second + time.Millisecond)
		require.Len(t, bob.got(), 50, "the rest comes at the rate")
		require.Nil(t, alice.ended())
		require.Positive(t, b.Stats().Throttled)
		require.Less(t, time.Since(start), 6*time.Second)
	})
}

func TestClientThatNeverSlowsDownIsEnded(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"messages": {InboundRate: 10},
		"bytes":    {InboundBytes: 100},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				alice := b.open("alice")
				start := time.Now()
				go func() {
					for alice.Write([]byte(`{"content":"0123456789","target":"all"}`)) == nil {
					}
				}()
				<-alice.conn.Context().Done()
				alice.requireEnd(realtime.CloseRate)
				require.InDelta(t, 10, time.Since(start).Seconds(), 1)
				require.EqualValues(t, 1, b.Stats().Ended.Rate)
			})
		})
	}
}

// A client that sends one message after another, each when the last was answered, is slowed down
// and may go on for ever.
func TestClientThatWaitsForItsAnswersIsKept(t *testing.T) {
	bubble(t, realtime.Options{InboundRate: 10}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		start := time.Now()
		for range 700 {
			require.NoError(t, alice.Write([]byte(`{"type":"send","id":1,"user":"nobody"}`)))
			for len(alice.raw()) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		require.InDelta(t, 60, time.Since(start).Seconds(), 1)
		require.Nil(t, alice.ended())
	})
}

// What a message costs is up to how many get it.
func TestFanoutIsLimited(t *testing.T) {
	bubble(t, realtime.Options{InboundFanout: 10}, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		b.join("hall", alice)
		for range 49 {
			b.join("hall", b.open(""))
		}
		for range 4 {
			alice.say("x", "room") // 50 receivers; a hundred may be reached at once
		}
		require.Len(t, alice.got(), 3, "the second made it a hundred, the third is over it")
		for range 9 {
			bob.say("x", "bob")
		}
		require.Len(t, bob.got(), 10, "and nobody else pays for it")
		time.Sleep(5 * time.Second)
		require.Len(t, alice.got(), 1)
		for range 20 {
			alice.say("x", "room")
		}
		time.Sleep(20 * time.Second)
		alice.requireEnd(realtime.CloseRate)
	})
}

func TestInboundRateCanBeOff(t *testing.T) {
	bubble(t, realtime.Options{InboundRate: -1, InboundBytes: -1}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for range 10_000 {
			alice.say("x", "nobody")
		}
		synctest.Wait()
		require.EqualValues(t, 10_000, b.Stats().Messages)
	})
}

func TestAnswersThatAreNotReadStopReading(t *testing.T) {
	bubble(t, realtime.Options{InboundRate: -1, StaleAfter: -1, PingInterval: -1}, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 100_000 {
				if alice.Write([]byte("ping")) != nil {
					return
				}
			}
		}()
		select {
		case <-done:
			t.Fatal("everything was taken in")
		case <-time.After(5 * time.Second):
		}
		require.Less(t, b.Stats().Received, uint64(40_000))
		alice.Drop()
		<-done
	})
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := realtime.New(nil)
		b := &bed{rt, t}
		alice, bob := b.open("alice"), b.open("bob")
		b.join("lobby", alice, bob)
		alice.hush()
		bob.hush()
		for _, target := range []string{"all", "room", "bob", "alice"} {
			alice.say("x", target)
		}
		require.Empty(t, bob.got())
		require.Empty(t, alice.got(), "a refusal is silence")
		require.EqualValues(t, 4, b.Stats().Denied)
		require.Zero(t, b.Stats().Messages)
		require.NoError(t, alice.Write([]byte("ping")))
		require.Equal(t, []string{"pong"}, alice.got())
		require.NoError(t, b.Close())
	})
}

func TestAuthorize(t *testing.T) {
	var asked diary
	o := realtime.Options{
		Authorize: func(ctx context.Context, c *realtime.Conn, a realtime.Action) error {
			if ctx != c.Context() {
				return errors.New("not the connection's context")
			}
			asked.write(string(a.Kind) + " " + strings.Join(append(a.Target.Rooms, a.Target.Users...), ","))
			if len(a.Target.Rooms) > 0 && a.Target.Rooms[0] == "secret" {
				return realtime.ErrForbidden
			}
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		b.join("lobby", alice, bob)
		b.join("secret", bob)
		alice.hush()
		bob.hush()
		alice.say("1", "room")
		require.Equal(t, []string{"send lobby"}, asked.read(), "the room is resolved")
		require.Equal(t, []string{"alice: 1"}, bob.got())
		bob.say("2", "room")
		require.Equal(t, []string{"send secret"}, asked.read())
		require.Empty(t, bob.got())
		bob.say("3", "alice")
		require.Equal(t, []string{"send alice"}, asked.read())
		require.EqualValues(t, 1, b.Stats().Denied)
	})
}

func TestOnMessageTakesThePlaceOfTheDefault(t *testing.T) {
	var b *bed
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) error {
		if in.Text == "bad" {
			return errors.New("bad word")
		}
		in.Message.Type = "filtered"
		_, err := b.Send(ctx, in.Target.Except(c.ID()), in.Message)
		return err
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice, bob := b.open("alice"), b.open("bob")
		alice.hush()
		bob.hush()
		alice.say("bad", "all")
		alice.say("good", "all")
		require.Empty(t, alice.got())
		require.Equal(t, `filtered {"type":"chat_message","sender_id":"alice","content":"good","timestamp":946684800}`,
			bob.got()[0])
		require.EqualValues(t, 1, b.Stats().Failed)
	})
}

func TestConnInfo(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		start := time.Now()
		alice := b.open("alice")
		time.Sleep(time.Minute)
		alice.say("x", "all")
		require.NoError(t, alice.Write([]byte("ping")))
		alice.hush()
		require.Equal(t, realtime.Info{
			RemoteAddr: "pipe", ConnectedAt: start, LastSeen: start.Add(time.Minute),
			Received: 2, Sent: 3,
		}, alice.conn.Info())
	})
}

func TestConnCloseCodes(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for _, code := range []realtime.CloseCode{0, 999, 1002, 1004, 1005, 1006, 1007, 1015, 2999, 5000} {
			require.ErrorIs(t, alice.conn.Close(code, ""), realtime.ErrCloseCode, "%d", code)
		}
		require.NoError(t, alice.conn.Close(4999, strings.Repeat("ü", 100)))
		alice.requireEnd(4999)
		require.Equal(t, strings.Repeat("ü", 61), alice.ended().Reason)
		why, ok := errors.AsType[*realtime.CloseError](contextCause(alice.conn.Context()))
		require.True(t, ok)
		require.Equal(t, realtime.CauseServer, why.Cause)
		require.ErrorIs(t, why, realtime.ErrClosed)
		require.Contains(t, why.Error(), "server, code 4999")
	})
}

func TestConnLimits(t *testing.T) {
	bubble(t, realtime.Options{MaxConns: 3, MaxConnsPerUser: 2}, func(t *testing.T, b *bed) {
		one, two := b.dial("alice"), b.dial("alice")
		require.NoError(t, errors.Join(one.err, two.err))
		require.ErrorIs(t, b.dial("alice").err, realtime.ErrTooManyConns)
		require.NoError(t, b.dial("bob").err)
		require.ErrorIs(t, b.dial("carol").err, realtime.ErrTooManyConns)
		one.Drop()
		synctest.Wait()
		require.NoError(t, b.dial("alice").err, "a place is free again")
		require.ErrorIs(t, b.dial("all").err, realtime.ErrName, "reserved")
		require.ErrorIs(t, b.dial("a\nb").err, realtime.ErrName)
	})
}

// What a handler made of a message is checked like any other.
func TestEditedMessagesAreChecked(t *testing.T) {
	var b *bed
	var sent diary
	o := realtime.Options{OnMessage: func(ctx context.Context, _ *realtime.Conn, in realtime.Inbound) error {
		in.Message.Content = []byte("{bad\xff")
		_, err := b.Send(ctx, in.Target, in.Message)
		sent.write(fmt.Sprint(errors.Is(err, realtime.ErrMessage)))
		in.Message = realtime.Chat("bob", "x")
		in.Message.Type = "welcome"
		_, err = b.Send(ctx, in.Target, in.Message)
		sent.write(fmt.Sprint(errors.Is(err, realtime.ErrName)))
		return err
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice := b.open("alice")
		alice.hush()
		alice.say("x", "all")
		require.Equal(t, []string{"true", "true"}, sent.read())
		require.Empty(t, alice.got())
	})
}
