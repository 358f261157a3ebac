package broker

import (
	"encoding/json"
	"time"
)

// Message is what an application sends: the fields of realtime.Message, where they are explained. A
// broker keeps all of them as they are. For itself it needs Sender, Guest, ID and TTL.
type Message struct {
	Type    string          `json:"type,omitempty"`
	Sender  string          `json:"sender,omitempty"` // a user; empty for the application and guests
	Guest   string          `json:"guest,omitempty"`  // an anonymous client
	ID      string          `json:"id,omitempty"`     // unique for one Sender and Guest; empty: none
	Content json.RawMessage `json:"content,omitempty"`
	Binary  []byte          `json:"binary,omitzero"` // nil and empty are different
	Time    time.Time       `json:"time,omitzero"`
	TTL     time.Duration   `json:"ttl,omitempty"` // see [Publication.Expired]
	Key     string          `json:"key,omitempty"`
}

// Sender is what the ids of messages are unique within: a user, an anonymous client, or, if both
// fields are empty, the application.
type Sender struct{ User, Guest string }

// From returns the sender of the message.
func (m *Message) From() Sender { return Sender{m.Sender, m.Guest} }
