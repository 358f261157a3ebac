package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestOnMessageReplacesTheDefault(t *testing.T) {
	var b *bed
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
		if in.Text == "bad" {
			return nil, errors.New("bad word")
		}
		in.Message.Type = "filtered"
		_, err := b.Send(ctx, in.Target.Except(c.ID()), in.Message)
		return nil, err
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice, bob := b.open("alice"), b.open("bob")
		alice.discard()
		bob.discard()
		alice.say("bad", "all")
		alice.say("good", "all")
		require.Empty(t, alice.got())
		require.Equal(t, `filtered {"type":"chat_message","sender_id":"alice","content":"good","timestamp":946684800}`,
			bob.got()[0])
		require.EqualValues(t, 1, b.Stats().Failed)
	})
}

// A message that a handler has changed is checked like any other.
func TestEditedMessagesAreChecked(t *testing.T) {
	var b *bed
	var sent diary
	o := realtime.Options{OnMessage: func(ctx context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		in.Message.Content = []byte("{bad\xff")
		_, err := b.Send(ctx, in.Target, in.Message)
		sent.write(fmt.Sprint(errors.Is(err, realtime.ErrInvalidMessage)))
		in.Message = realtime.Chat("bob", "x")
		in.Message.Type = "welcome"
		_, err = b.Send(ctx, in.Target, in.Message)
		sent.write(fmt.Sprint(errors.Is(err, realtime.ErrInvalidName)))
		return nil, err
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice := b.open("alice")
		alice.discard()
		alice.say("x", "all")
		require.Equal(t, []string{"true", "true"}, sent.read())
		require.Empty(t, alice.got())
	})
}

// A handler runs for 40 s. Meanwhile the client answers pings and stays connected. Its messages are
// handled afterwards, in order.
func TestSlowHandlerKeepsItsConnection(t *testing.T) {
	var handled diary
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		if in.Text == "slow" {
			time.Sleep(40 * time.Second)
		}
		handled.write(in.Text)
		return nil, nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for _, text := range []string{"slow", "1", "2", "3"} {
			alice.say(text, "all")
		}
		time.Sleep(39 * time.Second)
		require.Nil(t, alice.ended())
		require.Empty(t, handled.read())
		seen := alice.conn.Info().LastSeen
		require.Less(t, time.Since(seen), 30*time.Second, "pongs are read meanwhile")
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"slow", "1", "2", "3"}, handled.read())
		alice.say("4", "all")
		require.Equal(t, []string{"4"}, handled.read())
	})
}

func TestContextOfHandlerEndsWithConnection(t *testing.T) {
	var order diary
	o := realtime.Options{
		OnMessage: func(ctx context.Context, c *realtime.Conn, _ realtime.Inbound) (any, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			why, _ := errors.AsType[*realtime.CloseError](context.Cause(ctx))
			order.write("handler " + why.Cause.String())
			return nil, nil
		},
		OnDisconnect: func(context.Context, *realtime.Conn, *realtime.CloseError) {
			order.write("OnDisconnect")
		},
	}
	o.AnnounceUsers = true
	bubble(t, o, func(t *testing.T, b *bed) {
		bob, alice := b.open("bob"), b.open("alice")
		bob.discard()
		alice.say("wait for me to go", "all")
		alice.say("never handled", "all")
		time.Sleep(20 * time.Second)
		require.NoError(t, alice.PipeClient.Close(1000, ""))
		require.Equal(t, []string{"alice left"}, bob.got(), "the notice does not wait")
		require.Empty(t, order.read())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"handler client", "OnDisconnect"}, order.read())
	})
}

func TestHandlerPingsItsOwnClient(t *testing.T) {
	var pings diary
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, _ realtime.Inbound) (any, error) {
		took, err := c.Ping(ctx)
		pings.write(fmt.Sprint(took, err))
		return nil, err
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		alice.say("ping me", "all")
		time.Sleep(3 * time.Second)
		alice.unstall()
		require.Equal(t, []string{"3s <nil>"}, pings.read(), "the handler does not wait for itself")
		alice.say("again", "all")
		require.Equal(t, []string{"0s <nil>"}, pings.read())
	})
}

// While a handler blocks, the server reads a bounded number of messages ahead. Then the client has
// to wait.
func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var handled atomic.Int32
		o := realtime.Options{Limits: realtime.Limits{InboundRate: -1, InboundBytes: -1}}
		o.OnMessage = func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			<-release
			handled.Add(1)
			return nil, nil
		}
		b := newBed(t, o)
		alice := b.open("alice")
		var sent atomic.Int32
		go func() {
			for range 2000 {
				alice.say(string(make([]byte, 100)), "all")
				sent.Add(1)
			}
		}()
		time.Sleep(time.Minute)
		n := sent.Load()
		require.Less(t, n, int32(700), "the client waits")
		require.Nil(t, alice.ended(), "the connection stays open")
		close(release)
		synctest.Wait()
		require.EqualValues(t, 2000, sent.Load())
		require.EqualValues(t, 2000, handled.Load())
	})
}

func TestBacklogIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := realtime.Options{Limits: realtime.Limits{InboundRate: -1, InboundBytes: -1}}
		o.OnMessage = func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			<-release
			return nil, nil
		}
		b := newBed(t, o)
		alice := b.open("alice")
		alice.say("the handler does not return", "all")
		go func() {
			long := []byte(`{"content":"","target":"` + strings.Repeat("t", 60<<10) + `"}`)
			for alice.Write(long) == nil {
			}
		}()
		time.Sleep(time.Minute)
		require.Less(t, alice.conn.Info().Received, uint64(10), "targets count as well")
		close(release)
	})
}

func TestPanicEndsOneConnection(t *testing.T) {
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		panic("boom " + in.Text)
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		alice.say("x", "all")
		alice.requireEnd(realtime.CloseInternal)
		require.Equal(t, "internal error", alice.ended().Reason)
		require.Nil(t, bob.ended())
		require.EqualValues(t, 1, b.Stats().Panics)
		require.EqualValues(t, 1, b.Stats().Ended.Panic)
	})
	for name, o := range map[string]realtime.Options{
		"OnConnect": {OnConnect: func(context.Context, *realtime.Conn) error { panic("boom") }},
		"Authorize": {Authorize: func(context.Context, *realtime.Conn, realtime.Action) error { panic("boom") }},
		"OnDisconnect": {OnDisconnect: func(context.Context, *realtime.Conn, *realtime.CloseError) {
			panic("boom")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				alice := b.dial("alice")
				_ = alice.Write([]byte(`{"content":"x","target":"all"}`))
				synctest.Wait()
				alice.Drop()
				synctest.Wait()
				require.EqualValues(t, 1, b.Stats().Panics)
			})
		})
	}
}

// A handler that ends its goroutine, as t.FailNow does, ends its connection and nothing else.
func TestGoexitInHandler(t *testing.T) {
	var ends diary
	o := realtime.Options{
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			runtime.Goexit()
			return nil, nil
		},
		OnDisconnect: func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
			ends.write(c.UserID() + " " + why.Cause.String())
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.say("x", "all")
		alice.requireEnd(realtime.CloseInternal)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"alice panic"}, ends.read())
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

// A message that waits for a handler, or that the application keeps, shares no memory with the
// buffer of the next one.
func TestInboundMessagesShareNoBuffer(t *testing.T) {
	var kept []string
	var calls []json.RawMessage
	release := make(chan struct{})
	o := realtime.Options{
		OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
			if in.Method != "" {
				calls = append(calls, in.Message.Content)
				return nil, nil
			}
			<-release
			kept = append(kept, string(in.Message.Binary))
			return nil, nil
		},
	}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		b := newBed(t, o)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		header := `{"type":"send","all":true}`
		for i := range 3 {
			require.NoError(t, alice.WriteBinary(append([]byte{byte(len(header))}, header+strings.Repeat(fmt.Sprint(i), 100)...)))
		}
		time.Sleep(10 * time.Second) // longer than a handler may delay reading
		close(release)
		synctest.Wait()
		for i := range 3 {
			require.Equal(t, strings.Repeat(fmt.Sprint(i), 100), kept[i])
		}
		for i := range 3 {
			require.NoError(t, alice.Write(fmt.Appendf(nil, `{"type":"call","method":"m","content":"%d%s"}`, i, strings.Repeat("x", i))))
			synctest.Wait()
		}
		require.Equal(t, []json.RawMessage{[]byte(`"0"`), []byte(`"1x"`), []byte(`"2xx"`)}, calls)

		carol := b.openV1(realtime.Identity{UserID: "carol"})
		var answers []json.RawMessage
		for i := range 3 {
			done := make(chan json.RawMessage)
			go func() {
				p, _ := realtime.Call[json.RawMessage](t.Context(), carol.conn, "m", nil)
				done <- p
			}()
			synctest.Wait()
			require.NoError(t, carol.Write(fmt.Appendf(nil, `{"type":"reply","id":%d,"content":"%d"}`, i+1, i)))
			answers = append(answers, <-done)
		}
		require.Equal(t, []json.RawMessage{[]byte(`"0"`), []byte(`"1"`), []byte(`"2"`)}, answers)
		require.NoError(t, b.Close())
	})
}

// The time of a message is when it arrived, or when its turn came after another handler. How long
// the application takes to allow it does not count.
func TestTimeOfInboundMessages(t *testing.T) {
	var at diary
	var began time.Time
	o := realtime.Options{
		Authorize: func(context.Context, *realtime.Conn, realtime.Action) error {
			time.Sleep(time.Second)
			return nil
		},
		OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
			at.write(in.Message.Time.Sub(began).String())
			time.Sleep(10 * time.Second) // so the next messages are read meanwhile
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		began = time.Now()
		for range 3 {
			require.NoError(t, alice.Write([]byte(`{"type":"send","all":true}`)))
		}
		time.Sleep(time.Minute)
		bob.say("hi", "all")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"0s", "11s", "22s", "1m0s"}, at.read())
	})
}

// An error of a handler, of any kind, affects only the client of the handler.
func TestErrorsOfHandlers(t *testing.T) {
	var nothing *realtime.Error
	errs := map[string]error{
		"nil": nothing, "wrapped nil": fmt.Errorf("x: %w", nothing), "no code": &realtime.Error{Message: "m"},
		"of another client": &realtime.ClientError{Code: "forbidden", Message: "m"}, "panics": panicky{},
	}
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		return nil, errs[in.Method]
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		for method := range errs {
			alice := b.openV1(realtime.Identity{UserID: "alice"})
			alice.discard()
			frames := alice.request(`{"type":"call","id":1,"method":"` + method + `"}`)
			if method == "panics" {
				alice.requireEnd(realtime.CloseInternal)
				continue
			}
			require.Equal(t, []string{
				`{"message_type":"error","id":1,"content":{"code":"internal","message":"internal error"}}`,
			}, frames, method)
		}
	})
}

// The answer of a handler has to be JSON. If it is not, the client gets an error.
func TestAnswerOfHandlerIsChecked(t *testing.T) {
	var answer json.RawMessage
	o := realtime.Options{
		Limits: realtime.Limits{QueueBytes: 2048},
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			return answer, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for text, want := range map[string]string{
			"": `{"message_type":"reply","id":1}`, "{": `"code":"internal"`, "\"\xff\"": `"code":"internal"`,
			`"` + strings.Repeat("x", 1023) + `"`: `"code":"too_large"`, "[1]": `"content":[1]`,
		} {
			answer = json.RawMessage(text)
			require.Contains(t, alice.request(`{"type":"call","id":1,"method":"m"}`)[0], want)
		}
	})
}

// panicky is an error whose methods panic.
type panicky struct{}

func (panicky) Error() string { return "panicky" }

func (panicky) Is(error) bool { panic("asked") }

func (panicky) As(any) bool { panic("asked") }

// While a handler or OnRoom runs, textual pings are answered, so that the client does not take the
// silence for a loss. Ephemeral messages beyond the backlog are dropped, and nothing else is.
func TestPingsWhileAHandlerRuns(t *testing.T) {
	var release chan struct{}
	var handled []string
	o := realtime.Options{
		OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
			handled = append(handled, in.Message.Type)
			if in.Message.Type == "slow" {
				<-release
			}
			return nil, nil
		},
		OnRoom: func(context.Context, realtime.RoomEvent) { <-release },
	}
	for name, begin := range map[string]string{
		"handler": `{"type":"send","server":true,"message_type":"slow"}`,
		"OnRoom":  `{"type":"join","room":"lobby"}`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				release, handled = make(chan struct{}), nil
				alice := b.openV1(realtime.Identity{UserID: "alice"})
				require.NoError(t, alice.Write([]byte(begin)))
				alice.discard()
				go func() {
					for range 100 {
						_ = alice.Write([]byte(`{"type":"send","server":true,"message_type":"input","ephemeral":true}`))
					}
					_ = alice.Write([]byte("ping"))
					_ = alice.Write([]byte(`{"type":"send","id":1,"server":true,"message_type":"last"}`))
				}()
				time.Sleep(6 * time.Second)
				require.Equal(t, []string{"pong"}, alice.raw())
				time.Sleep(time.Hour)
				require.Nil(t, alice.ended())
				close(release)
				require.Equal(t, []string{`{"message_type":"reply","id":1}`}, alice.raw())
				require.Contains(t, []int{65, 66, 67}, len(handled), "the backlog, what comes before it, and the last one")
				require.Equal(t, "last", handled[len(handled)-1])
				require.NotZero(t, b.Stats().Ignored)
			})
		})
	}
}
