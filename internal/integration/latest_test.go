package integration_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A message with Latest is the value of a key in one room or for one connection, and nothing else.
func TestLatestMessageOfTheApplicationIsChecked(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		hall, conn := realtime.ToRoom("hall"), realtime.ToConn("c")
		value := realtime.Message{Latest: "shape/7", Content: json.RawMessage("1")}
		for _, to := range []realtime.Target{hall, conn} {
			_, err := b.Send(t.Context(), to, value)
			require.NoError(t, err)
		}
		for _, to := range []realtime.Target{
			{}, realtime.ToAll(), realtime.ToUser("bob"), realtime.ToRoom("hall", "attic"),
			realtime.ToConn("c", "d"), hall.Union(conn), hall.Union(realtime.ToAll()),
			hall.Union(realtime.ToUser("bob")), hall.Except("c"), conn.ExceptUser("bob"),
		} {
			_, err := b.Send(t.Context(), to, value)
			require.ErrorIs(t, err, realtime.ErrInvalidMessage, to)
		}
		for _, m := range []realtime.Message{
			{Latest: "k", ID: "x"}, {Latest: "k", TTL: 1}, {Latest: "k", Ephemeral: true},
		} {
			_, err := b.Send(t.Context(), hall, m)
			require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		}
		for _, key := range []string{strings.Repeat("k", 65), " k", "\n", "\xff"} {
			_, err := b.Send(t.Context(), hall, realtime.Message{Latest: key})
			require.ErrorIs(t, err, realtime.ErrInvalidName, key)
		}
		_, err := b.Send(t.Context(), hall, realtime.Message{Latest: strings.Repeat("k", 64)})
		require.NoError(t, err)
	})
}

// The history of a room does not have its values.
func TestLatestMessageIsNotKept(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("hall", alice)
		alice.discard()
		res, err := b.Send(t.Context(), realtime.ToRoom("hall"),
			realtime.Message{Latest: "k", Content: json.RawMessage("1")})
		require.NoError(t, err)
		require.Equal(t, realtime.Result{Matched: 1, Queued: 1}, res)
		require.Len(t, alice.raw(), 2, "the value and its version")
		page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{})
		require.NoError(t, err)
		require.Empty(t, page.Messages)
	})
}

// The authorizer learns the key of a value.
func TestLatestMessageOfClients(t *testing.T) {
	var asked []realtime.Action
	o := realtime.Options{Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		asked = append(asked, a)
		return nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		bob := b.open("bob")
		b.join("hall", bob)
		alice.discard()
		require.Equal(t, []string{`{"message_type":"reply","id":1}`}, alice.request(
			`{"type":"send","id":1,"room":"hall","message_type":"shape","latest":"k","content":"hi"}`))
		require.Empty(t, alice.request(`{"type":"send","conn":"c","latest":"k"}`))
		require.Equal(t, []string{`shape "hi"`}, bob.got())
		require.Equal(t, []realtime.Action{
			{Kind: realtime.ActionSend, Target: realtime.ToRoom("hall"), Type: "shape", Latest: "k"},
			{Kind: realtime.ActionSend, Target: realtime.ToConn("c"), Type: "chat", Latest: "k"},
		}, asked)
	})
}

// Whatever is wrong with a value, a client that does not ask for an answer gets one error a second.
func TestLatestMessagesThatAreWrong(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for request, want := range map[string]string{
			`"latest":"k","room":"hall","message_id":"x"`:              "bad_request chat",
			`"latest":"k","room":"hall","ttl_ms":1`:                    "bad_request chat",
			`"latest":"k","room":"hall","receipt":true`:                "bad_request chat",
			`"latest":"k","room":"hall","ephemeral":true`:              "bad_request chat",
			`"latest":"k","user":"bob","message_type":"t"`:             "bad_request t",
			`"latest":"k","all":true`:                                  "bad_request chat",
			`"latest":"k","server":true`:                               "bad_request chat",
			`"latest":"k","room":"hall","conn":"c"`:                    "bad_request chat",
			`"latest":"k","room":"hall","message_type":"latest"`:       "bad_request latest",
			`"latest":"k","room":"hall","message_type":"Presence"`:     "bad_request Presence",
			`"latest":"k","room":7`:                                    "bad_request chat",
			`"latest":"` + strings.Repeat("k", 65) + `","room":"hall"`: "bad_request chat",
			`"latest":"\n","room":"hall"`:                              "bad_request chat",
		} {
			for range 3 {
				require.NoError(t, alice.Write([]byte(`{"type":"send",`+request+`}`)))
			}
			require.Equal(t, []string{want}, refusals(t, alice.raw()), request)
			time.Sleep(time.Second)
		}
		for range 3 { // with an id, it is a request like any other
			require.Contains(t, alice.request(`{"type":"send","id":1,"room":"hall","latest":"k","ttl_ms":1}`)[0],
				`{"message_type":"error","id":1,"content":{"code":"bad_request"`)
		}
	})
}
