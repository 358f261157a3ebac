package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// headed returns a binary message: a header of less than 128 bytes, and the bytes that follow it.
func headed(header, content string) []byte {
	return append([]byte{byte(len(header))}, header+content...)
}

// requestBinary sends a binary request and returns the frames that follow.
func (c *client) requestBinary(header, content string) []string {
	c.t.Helper()
	require.NoError(c.t, c.WriteBinary(headed(header, content)))
	return append([]string{}, c.raw()...)
}

// A message to the server reaches the handler and no client, whatever is kept for others.
func TestMessageToTheServer(t *testing.T) {
	o := inboxes(10)
	o.History = realtime.Retention{Messages: 10}
	var asked []realtime.Action
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		asked = append(asked, a)
		return nil
	}
	var b *bed
	var got []realtime.Inbound
	o.OnMessage = func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
		require.Equal(t, c.ID(), in.Message.Conn)
		in.Message.Conn = ""
		got = append(got, realtime.Inbound{
			Text: in.Text, Method: in.Method, Target: in.Target, Message: in.Message,
		})
		res, err := b.Send(ctx, in.Target, in.Message) // to nobody
		require.Zero(t, res.Matched+res.Kept)
		return "the result is ignored", err
	}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("lobby", alice, bob)
		const reply = `{"message_type":"reply","id":1}`
		require.Equal(t, []string{reply}, alice.request(`{"type":"send","id":1,"server":true,"message_type":"input",`+
			`"content":[1],"message_id":"m1","ttl_ms":1000,"receipt":true}`))
		require.Equal(t, []string{reply}, alice.requestBinary(`{"type":"send","id":1,"server":true,"message_type":"input"}`, "\x00\xff"))
		require.Equal(t, []string{reply}, alice.requestBinary(`{"type":"send","id":1,"server":true}`, ""))
		require.Empty(t, alice.request(`{"type":"send","server":true}`))
		require.Empty(t, bob.got())

		now := time.Now()
		require.Equal(t, []realtime.Inbound{
			{Message: realtime.Message{
				Type: "input", Sender: "alice", ID: "m1", Content: json.RawMessage("[1]"), TTL: time.Second, Time: now,
			}},
			{Message: realtime.Message{Type: "input", Sender: "alice", Binary: []byte("\x00\xff"), Time: now}},
			{Message: realtime.Message{Type: "chat", Sender: "alice", Binary: []byte{}, Time: now}},
			{Message: realtime.Message{Type: "chat", Sender: "alice", Time: now}},
		}, got)
		require.Len(t, asked, 4)
		for _, a := range asked {
			require.Equal(t, realtime.ActionSend, a.Kind)
			require.Equal(t, realtime.Target{}, a.Target)
		}
		for _, member := range []string{`"room":"lobby"`, `"user":"bob"`, `"conn":"c"`, `"all":true`} {
			require.Contains(t, alice.request(`{"type":"send","id":1,"server":true,` + member + `}`)[0], `"code":"bad_request"`)
		}
		require.Contains(t, alice.request(`{"type":"send","id":1,"server":false}`)[0], `"code":"bad_request"`)
		require.Len(t, got, 4)
	})
}

// Without a handler for it, a message to the server is refused.
func TestMessageToTheServerWithoutAHandler(t *testing.T) {
	var r realtime.Router
	realtime.On(&r, "known", func(context.Context, *realtime.Conn, realtime.Inbound, any) error { return nil })
	for name, o := range map[string]realtime.Options{
		"no OnMessage": {}, "history": keeping(10), "a Router without the type": {OnMessage: r.OnMessage},
	} {
		t.Run(name, func(t *testing.T) {
			allowed := true
			o.Authorize = func(context.Context, *realtime.Conn, realtime.Action) error {
				if !allowed {
					return realtime.ErrForbidden
				}
				return nil
			}
			bubble(t, o, func(t *testing.T, b *bed) {
				alice := b.openV1(realtime.Identity{UserID: "alice"})
				alice.discard()
				for range 2 { // a refused message may be sent again
					require.Equal(t, []string{
						`{"message_type":"error","id":1,"content":{"code":"unknown_event","message":"unknown event \"input\""}}`,
					}, alice.request(`{"type":"send","id":1,"server":true,"message_type":"input","message_id":"x","receipt":true}`))
				}
				require.Contains(t, alice.request(`{"type":"send","server":true}`)[0], `"id":null,"content":{"code":"unknown_event"`)
				require.Zero(t, b.Stats().Messages)
				require.Zero(t, b.Stats().Failed)
				allowed = false
				require.Contains(t, alice.request(`{"type":"send","id":1,"server":true}`)[0], `"code":"forbidden"`)
			})
		})
	}
}

// A message to the server that is sent again is handled once, also by a client that has resumed its
// session, unless the handler failed.
func TestRepeatedMessageToTheServer(t *testing.T) {
	handled := map[string]int{}
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		handled[in.Message.ID]++
		if in.Message.ID == "fails" && handled["fails"] == 1 {
			return nil, fmt.Errorf("not now")
		}
		return nil, nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		first, w := b.session("")
		send := func(c *client, id string) string {
			return c.request(`{"type":"send","id":1,"server":true,"message_id":"` + id + `"}`)[0]
		}
		const reply = `{"message_type":"reply","id":1}`
		require.Equal(t, reply, send(first, "once"))
		require.Contains(t, send(first, "fails"), "internal")
		first.Drop()
		again, _ := b.session("")
		again.resumes(w.Session)
		require.Equal(t, reply, send(again, "once"))
		require.Equal(t, reply, send(again, "fails"))
		require.Contains(t, again.request(`{"type":"send","id":1,"all":true,"message_id":"once"}`), reply, "for any receivers")
		require.Equal(t, map[string]int{"once": 1, "fails": 2}, handled)
	})
}

// A plain client cannot send to the server: neither a name that no user can have, nor a member of
// realtime.v1 does it.
func TestPlainClientsCannotSendToTheServer(t *testing.T) {
	var targets []realtime.Target
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		targets = append(targets, in.Target)
		return nil, nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for _, target := range []string{"", " ", "\x00", " x", "server"} {
			alice.say("hi", target)
		}
		for _, text := range []string{
			`{"content":"hi","server":true}`, `{"content":"hi","target":"","server":true}`,
			`{"type":"send","server":true,"content":"hi"}`,
		} {
			require.NoError(t, alice.Write([]byte(text)))
		}
		require.NoError(t, alice.WriteBinary(headed(`{"type":"send","server":true}`, "hi")))
		alice.say("hi", "room")
		alice.raw()
		require.Equal(t, []realtime.Target{
			realtime.ToUser("server"), realtime.ToRoom(realtime.DefaultRoom),
		}, targets)
		require.Nil(t, alice.ended())
	})
}
