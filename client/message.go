package client

import (
	"encoding/json"
	"time"

	"github.com/realtime-go/realtime"
)

// Message is a message that a client has received. The receiver owns its slices.
type Message struct {
	// Type is the type of the message: "chat", one of the application's own, or that of a notice of
	// the server: "userjoined", "userleft" or "systemnotification".
	Type   string
	Sender string // user that sent it; empty for the server and for anonymous connections
	Room   string // room to which it was sent; empty if it was not sent to one room
	ID     string // see realtime.Message; empty if it has none
	// Guest distinguishes an anonymous sender from others and from the server. It is not a name.
	// Empty if there is a Sender, or no sender.
	Guest string
	// Conn is the id of the connection that sent it, for an answer with realtime.ToConn. Empty if
	// the message was sent to a room or to all, or by the server.
	Conn string
	// Content is JSON. Binary is the content of a message that is not JSON; then Content is nil.
	// Otherwise Binary is nil.
	Content json.RawMessage
	Binary  []byte
	Time    time.Time // when it was sent, to the millisecond
	// Ephemeral reports whether the message was for those only that could receive it at once. While
	// more than 64 messages or 64 KiB wait for the consumer, such messages are dropped, and no
	// *[GapError] reports them.
	Ephemeral bool
	// Latest is the key of which the message is the current value, in its room or, without a room,
	// for this client, see realtime.Message. Empty for any other message. If the Content is null, the
	// key does not exist any more. Such messages have no order with others. While one waits for the
	// consumer, a newer one with the same key takes its place.
	Latest string
	// Position is the position among the messages that the room keeps or, without a room, in the
	// user's inbox. It can be used in [HistoryQuery] and realtime.From. Zero if the message is not
	// kept.
	realtime.Position
}

// inInbox reports whether the message must be acknowledged.
func (m *Message) inInbox() bool { return m.Room == "" && m.Epoch != "" }

// size returns the size in the queue, in bytes.
func (m *Message) size() int {
	return len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.Conn) + len(m.Room) + len(m.ID) +
		len(m.Content) + len(m.Binary) + len(m.Epoch) + len(m.Latest)
}
