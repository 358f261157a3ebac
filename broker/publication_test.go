package broker_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// A broker may carry publications as JSON.
func TestPublicationAsJSON(t *testing.T) {
	for _, m := range []broker.Message{
		{Type: "chat", Sender: "alice", Conn: "c", ID: "1", Content: json.RawMessage(`{"a":1}`), Time: time.Unix(1, 0).UTC()},
		{Type: "frame", Binary: []byte{0, 255}}, {Type: "frame", Binary: []byte{}}, {Type: "poke"}, {Type: "cursor", Ephemeral: true},
	} {
		p, err := json.Marshal(broker.Publication{Target: broker.Target{Rooms: []string{"lobby"}}, Message: m})
		require.NoError(t, err)
		var back broker.Publication
		require.NoError(t, json.Unmarshal(p, &back))
		require.Equal(t, m, back.Message, "%s", p)
	}
}

// Each string of a message counts in its size.
func TestSizeOfPublication(t *testing.T) {
	bare := (&broker.Publication{}).Size()
	p := broker.Publication{Message: broker.Message{
		Type: "t", Sender: "ss", Guest: "ggg", Conn: "cccc", ID: "iiiii", Latest: "kkkkkk",
		Content: []byte("1234567"), Binary: []byte("bbbbbbbb"),
	}}
	require.Equal(t, bare+36, p.Size())
}
