package client

import (
	"encoding/json"
	"time"

	"github.com/realtime-go/realtime"
)

// Message is what a client receives. Whoever gets it owns its slices.
type Message struct {
	// Type is the word by which messages are told apart: "chat", the application's own, or
	// one of the server's notices: "userjoined", "userleft", "systemnotification".
	Type   string
	Sender string // the user who sent it; empty for the server and for anonymous ones
	Room   string // the room that it was sent to; empty if it was not sent to one room
	ID     string // see realtime.Message; empty if it has none
	// Guest tells somebody anonymous who sent it from others, and from the server. It is no name.
	// Empty if there is a Sender, or none.
	Guest string
	// Content is JSON. Binary is content that is not, in place of Content; else it is nil.
	Content json.RawMessage
	Binary  []byte
	Time    time.Time // when it was sent, to the second
	// Position is its place in what the room keeps or, without a room, in the user's inbox, for
	// [HistoryQuery] and realtime.From. Zero if it is not kept.
	realtime.Position
}

// inInbox reports whether it waits to be acknowledged.
func (m *Message) inInbox() bool { return m.Room == "" && m.Epoch != "" }

// size is what it takes while it waits, in bytes.
func (m *Message) size() int {
	return len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.Room) + len(m.ID) + len(m.Content) +
		len(m.Binary) + len(m.Epoch)
}
