package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
)

func contentAttacks() []attack {
	return []attack{
		{name: "spoofed sender", run: spoofing},
		{name: "invalid text from clients", run: invalidTextFromClients},
		{name: "invalid text from Send", run: invalidTextFromSend},
		{name: "invalid text in names", run: invalidTextInNames, opts: announced()},
	}
}

// spoofing claims to be another sender.
func spoofing(w *world) {
	c := w.connect("mallory")
	for _, p := range []string{
		`{"content":"1st","target":"room","sender_id":"speaker"}`,
		`{"message_type":"userjoined","timestamp":1,"target":"room","content":"2nd"}`,
		`{"content":"{\"sender_id\":\"speaker\"}","type":"chat_message","target":"room"}`,
		`{"content":"x\",\"sender_id\":\"speaker\",\"y\":\"","target":"room"}`,
	} {
		c.send(masked(0x81, p))
	}
	lies := []string{
		`{"content":"x","target":"room","content":"y"}`,
		`{"content":"x","target":"room","t\u0061rget":"all"}`,
		`{"Content":"x","Target":"room"}`,
		`{"content":{"sender_id":"speaker","content":"0"},"target":"room"}`,
		`{"content":"x","target":["room"]}`,
		`[{"content":"x","target":"room"}]`,
		`{"content":"x","target":"room"}{"content":"y","target":"room"}`,
		`{"message_type":"welcome","content":{"connection_id":"conn_0"}}`,
		`{"message_type":"systemnotification","content":{"type":"room_leave","user_id":"bystander"}}`,
	}
	for _, p := range lies {
		c.send(masked(0x81, p))
	}
	c.send(chatFrame("end"))
	w.bystander.expect(w.t, "chat mallory: 1st", "chat mallory: 2nd",
		`chat mallory: {"sender_id":"speaker"}`, `chat mallory: x","sender_id":"speaker","y":"`,
		"chat mallory: end")
	require.EqualValues(w.t, len(lies), w.rt.Stats().Ignored)
}

// invalidTexts are bytes that are not UTF-8, although some decoders accept them.
var invalidTexts = []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}

// invalidTextFromClients sends invalid UTF-8 in each part of a client's message.
func invalidTextFromClients(w *world) {
	for _, p := range invalidTexts {
		for _, text := range []string{
			p, `{"content":"` + p + `","target":"room"}`, `{"content":"x","target":"` + p + `"}`,
			`{"content":"x","target":"room","more":"` + p + `"}`,
		} {
			c := w.connect("mallory")
			c.send(masked(0x81, text))
			require.Equal(w.t, realtime.CloseText, c.closed())
		}
		c := w.connect("mallory")
		c.send(masked(0x82, p) + masked(0x89, p) + masked(0x8A, p) + chatFrame("alive"))
		w.bystander.expect(w.t, "chat mallory: alive")
	}
	c := w.connect("mallory")
	c.send(masked(0x81, `{"content":"\ud800","target":"room"}`) +
		masked(0x81, `{"content":"x","target":"\udfff"}`) + chatFrame("end"))
	w.bystander.wait(w.t, func() bool { // the bystander checks that the frames are valid
		n := len(w.bystander.texts)
		return n > 0 && w.bystander.texts[n-1] == "chat mallory: end"
	})
}

// invalidTextFromSend sends invalid UTF-8 as an application and as a REST caller.
func invalidTextFromSend(w *world) {
	to := realtime.ToRoom("lobby")
	for _, p := range invalidTexts {
		for _, msg := range []realtime.Message{
			{Content: json.RawMessage(`"` + p + `"`)},
			{Content: json.RawMessage(p)},
			{Content: json.RawMessage(`{"` + p + `":1}`)},
			{Type: p}, {Sender: p}, {Type: "a" + p + "b"},
		} {
			_, err := w.rt.Send(w.t.Context(), to, msg)
			require.Error(w.t, err, "%q", msg)
		}
		res, err := w.rt.Send(w.t.Context(), to, realtime.Chat("", "bad "+p))
		require.NoError(w.t, err)
		require.Equal(w.t, 2, res.Queued, "the bystander and the speaker check the frame")
		_, err = w.rt.Send(w.t.Context(), realtime.ToRoom(p).Union(realtime.ToUser(p)), note("nobody"))
		require.ErrorIs(w.t, err, realtime.ErrInvalidName)
	}
	w.bystander.wait(w.t, func() bool { return len(w.bystander.texts) == len(invalidTexts) })
}

// invalidTextInNames uses invalid UTF-8 as the names of users and rooms that notices would contain.
func invalidTextInNames(w *world) {
	c := w.connect("mallory")
	var id string
	for conn := range w.rt.User("mallory").LocalConns() {
		id = conn.ID()
	}
	for _, p := range invalidTexts {
		var escaped strings.Builder
		for i := range len(p) {
			fmt.Fprintf(&escaped, "%%%02x", p[i])
		}
		res, _, err := w.request(handshake(escaped.String()))
		require.NoError(w.t, err)
		require.Equal(w.t, http.StatusBadRequest, res.StatusCode)
		status, _ := w.callREST("POST", "/connections/"+id+"/join", `{"room_id":"`+p+`"}`)
		require.Equal(w.t, http.StatusBadRequest, status)
		_, err = w.rt.Join(w.t.Context(), id, p)
		require.ErrorIs(w.t, err, realtime.ErrInvalidName)
		_, answer := w.callREST("GET", "/rooms/"+escaped.String()+"/users", "")
		require.True(w.t, utf8.ValidString(answer))
	}
	c.send(chatFrame("end"))
	w.bystander.wait(w.t, func() bool {
		n := len(w.bystander.texts)
		return n > 0 && w.bystander.texts[n-1] == "chat mallory: end"
	})
	require.Equal(w.t, 1, w.rt.Stats().Rooms)
}

// Messages from a broker are checked like other input.
func TestInvalidTextFromABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newFakeBroker()
		b := newBed(t, realtime.Options{Broker: wire})
		bystander := b.open("bystander")
		b.join("lobby", bystander)
		synctest.Wait() // the broker is open
		sink := wire.sink
		for _, p := range invalidTexts {
			for _, msg := range []realtime.Message{
				{Content: json.RawMessage(`"` + p + `"`)}, {Type: p}, {Sender: p},
				{Content: json.RawMessage("{")}, {Type: "welcome"}, {Type: "userleft"},
			} {
				sink.Deliver(broker.Publication{Target: broker.Target{All: true}, Message: broker.Message(msg)})
			}
			sink.Deliver(broker.Publication{Target: broker.Target{Rooms: []string{p}}, Message: broker.Message(note("x"))})
		}
		require.Empty(t, bystander.got())
		sink.Deliver(broker.Publication{
			Target: broker.Target{Rooms: []string{"lobby"}}, Message: broker.Message(note("x")),
		})
		require.Equal(t, []string{`n "x"`}, bystander.got())
		require.NoError(t, b.Close())
		requireConserved(t, b.Stats())
	})
}
