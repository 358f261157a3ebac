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

func poisonAttacks() []attack {
	return []attack{
		{name: "spoofed sender", run: spoofing},
		{name: "poison by text", run: poisonedText},
		{name: "poison by Send", run: poisonedSend},
		{name: "poison by name", run: poisonedName, opts: announced()},
	}
}

// spoofing says that somebody else has said it.
func spoofing(a *arena) {
	c := a.enter("mallory")
	for _, p := range []string{
		`{"content":"1st","target":"room","sender_id":"herald"}`,
		`{"message_type":"userjoined","timestamp":1,"target":"room","content":"2nd"}`,
		`{"content":"{\"sender_id\":\"herald\"}","type":"chat_message","target":"room"}`,
		`{"content":"x\",\"sender_id\":\"herald\",\"y\":\"","target":"room"}`,
	} {
		c.send(masked(0x81, p))
	}
	lies := []string{
		`{"content":"x","target":"room","content":"y"}`,
		`{"content":"x","target":"room","t\u0061rget":"all"}`,
		`{"Content":"x","Target":"room"}`,
		`{"content":{"sender_id":"herald","content":"0"},"target":"room"}`,
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
	a.bystander.hears(a.t, "chat mallory: 1st", "chat mallory: 2nd",
		`chat mallory: {"sender_id":"herald"}`, `chat mallory: x","sender_id":"herald","y":"`,
		"chat mallory: end")
	require.EqualValues(a.t, len(lies), a.rt.Stats().Ignored)
}

// poisons are bytes that are no UTF-8, or would be none in another language.
var poisons = []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}

// poisonedText sends poison in all that a client can say.
func poisonedText(a *arena) {
	for _, p := range poisons {
		for _, text := range []string{
			p, `{"content":"` + p + `","target":"room"}`, `{"content":"x","target":"` + p + `"}`,
			`{"content":"x","target":"room","more":"` + p + `"}`,
		} {
			c := a.enter("mallory")
			c.send(masked(0x81, text))
			require.Equal(a.t, realtime.CloseText, c.closed())
		}
		c := a.enter("mallory")
		c.send(masked(0x82, p) + masked(0x89, p) + masked(0x8A, p) + chatFrame("alive"))
		a.bystander.hears(a.t, "chat mallory: alive")
	}
	c := a.enter("mallory")
	c.send(masked(0x81, `{"content":"\ud800","target":"room"}`) +
		masked(0x81, `{"content":"x","target":"\udfff"}`) + chatFrame("end"))
	a.bystander.until(a.t, func() bool { // who checks that what is left of it is harmless
		n := len(a.bystander.heard)
		return n > 0 && a.bystander.heard[n-1] == "chat mallory: end"
	})
}

// poisonedSend sends poison as the application and as a REST caller would by mistake.
func poisonedSend(a *arena) {
	to := realtime.ToRoom("lobby")
	for _, p := range poisons {
		for _, msg := range []realtime.Message{
			{Content: json.RawMessage(`"` + p + `"`)},
			{Content: json.RawMessage(p)},
			{Content: json.RawMessage(`{"` + p + `":1}`)},
			{Type: p}, {Sender: p}, {Type: "a" + p + "b"},
		} {
			_, err := a.rt.Send(a.t.Context(), to, msg)
			require.Error(a.t, err, "%q", msg)
		}
		res, err := a.rt.Send(a.t.Context(), to, realtime.Chat("", "bad "+p))
		require.NoError(a.t, err)
		require.Equal(a.t, 2, res.Queued, "the witnesses see that it is harmless now")
		_, err = a.rt.Send(a.t.Context(), realtime.ToRoom(p).Union(realtime.ToUser(p)), note("nobody"))
		require.ErrorIs(a.t, err, realtime.ErrName)
	}
	a.bystander.until(a.t, func() bool { return len(a.bystander.heard) == len(poisons) })
}

// poisonedName gives poison to users and rooms, of whose comings and goings all are told.
func poisonedName(a *arena) {
	c := a.enter("mallory")
	var id string
	for conn := range a.rt.User("mallory").LocalConns() {
		id = conn.ID()
	}
	for _, p := range poisons {
		var escaped strings.Builder
		for i := range len(p) {
			fmt.Fprintf(&escaped, "%%%02x", p[i])
		}
		res, _, err := a.ask(handshake(escaped.String()))
		require.NoError(a.t, err)
		require.Equal(a.t, http.StatusBadRequest, res.StatusCode)
		status, _ := a.rest("POST", "/connections/"+id+"/join", `{"room_id":"`+p+`"}`)
		require.Equal(a.t, http.StatusBadRequest, status)
		_, err = a.rt.Join(a.t.Context(), id, p)
		require.ErrorIs(a.t, err, realtime.ErrName)
		_, answer := a.rest("GET", "/rooms/"+escaped.String()+"/users", "")
		require.True(a.t, utf8.ValidString(answer))
	}
	c.send(chatFrame("end"))
	a.bystander.until(a.t, func() bool {
		n := len(a.bystander.heard)
		return n > 0 && a.bystander.heard[n-1] == "chat mallory: end"
	})
	require.Equal(a.t, 1, a.rt.Stats().Rooms)
}

// What a broker brings is checked like what comes through any other door.
func TestInvalidTextFromABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &bus{}
		b := newBed(t, realtime.Options{Broker: wire})
		bystander := b.open("bystander")
		b.join("lobby", bystander)
		sink := wire.sinks[0]
		for _, p := range poisons {
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
