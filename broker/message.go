package broker

import (
	"encoding/json"
	"time"
)

// Message has the fields of realtime.Message, which documents them. A broker keeps all of them
// unchanged. It uses only Sender, Guest, ID and TTL itself.
type Message struct {
	Type    string          `json:"type,omitempty"`
	Sender  string          `json:"sender,omitempty"` // a user; empty for the application and guests
	Guest   string          `json:"guest,omitempty"`  // an anonymous client
	Conn    string          `json:"conn,omitempty"`   // the connection that sent it
	ID      string          `json:"id,omitempty"`     // unique for one Sender and Guest; empty: no id
	Content json.RawMessage `json:"content,omitempty"`
	Binary  []byte          `json:"binary,omitzero"` // nil and empty are different
	Time    time.Time       `json:"time,omitzero"`
	TTL     time.Duration   `json:"ttl,omitempty"` // see [Publication.Expired]
	// Latest is the key of which the message is the current value. Such messages are never kept.
	Latest string `json:"latest,omitempty"`
	// Ephemeral messages are never kept: their publications have no stream.
	Ephemeral bool `json:"ephemeral,omitempty"`
}

// Sender identifies a sender: a user, an anonymous client, or, if both fields are empty, the
// application. The ids of messages are unique for one Sender.
type Sender struct{ User, Guest string }

// From returns the sender of the message.
func (m *Message) From() Sender { return Sender{m.Sender, m.Guest} }
