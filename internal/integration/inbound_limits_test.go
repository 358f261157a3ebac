package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestInvalidTextEndsOneConnection(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		bad, bystander := b.open("bad"), b.open("bystander")
		bystander.discard()
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
		alice.discard()
		require.NoError(t, alice.Write(frame(64<<10)))
		require.Len(t, alice.got(), 1)
		require.NoError(t, alice.Write(frame(64<<10+1)))
		alice.requireEnd(realtime.CloseTooBig)
		require.Equal(t, "message is too large", alice.ended().Reason)
	})
	bubble(t, realtime.Options{Limits: realtime.Limits{MessageBytes: -1}}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.discard()
		require.NoError(t, alice.Write(frame(1<<20)))
		require.Len(t, alice.got(), 1)
	})
}

func TestInboundRateDelaysWithoutLoss(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{InboundRate: 10}} // and a burst of 100
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		bob.discard()
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

func TestFloodingClientIsEnded(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"messages": {Limits: realtime.Limits{InboundRate: 10}},
		"bytes":    {Limits: realtime.Limits{InboundBytes: 100}},
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

// A client that sends each message after the answer to the previous one is delayed and stays
// connected.
func TestClientThatAwaitsAnswersIsKept(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: 10}}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
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

// A message costs its sender the number of its receivers.
func TestFanoutIsLimited(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundFanout: 10}}, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		b.join("hall", alice)
		for range 49 {
			b.join("hall", b.open(""))
		}
		for range 4 {
			alice.say("x", "room") // 50 receivers; the burst is 100
		}
		require.Len(t, alice.got(), 3, "the second made it a hundred, the third is over it")
		for range 9 {
			bob.say("x", "bob")
		}
		require.Len(t, bob.got(), 10, "no other client is delayed")
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
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: -1, InboundBytes: -1}}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for range 10_000 {
			alice.say("x", "nobody")
		}
		synctest.Wait()
		require.EqualValues(t, 10_000, b.Stats().Messages)
	})
}

func TestUnreadAnswersStopReading(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: -1}, Timeouts: realtime.Timeouts{Stale: -1, Ping: -1}}, func(t *testing.T, b *bed) {
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

// Answers of the client to the server's pings and calls do not count against its limits.
func TestAnswersToTheServerAreFree(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: 1, QueueMessages: 2}, Timeouts: realtime.Timeouts{Ping: time.Second}}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		began := time.Now()
		for range 300 {
			_, err := alice.conn.Ping(t.Context())
			require.NoError(t, err)
		}
		for range 300 {
			answered := make(chan error)
			go func() { answered <- second(realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", nil)) }()
			var call struct{ ID json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(alice.raw()[0]), &call))
			require.NoError(t, alice.Write([]byte(`{"type":"reply","id":`+string(call.ID)+`}`)))
			require.NoError(t, <-answered)
		}
		require.Zero(t, time.Since(began), "nothing waits")
		require.Zero(t, b.Stats().Throttled)
		time.Sleep(5 * time.Minute)
		require.NoError(t, alice.conn.Context().Err())

		for range 100 { // answers without a call count
			require.NoError(t, alice.Write([]byte(`{"type":"reply","id":1}`)))
		}
		time.Sleep(time.Minute)
		alice.requireEnd(realtime.CloseRate)
	})
}
