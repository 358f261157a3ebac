package client

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime"
)

// frame is a WebSocket message.
type frame struct {
	binary bool
	data   []byte
}

// ping is answered with pong by every server.
var ping = frame{data: []byte("ping")}

// outgoing is a request.
type outgoing struct {
	Type        string          `json:"type"`
	ID          uint64          `json:"id,omitempty"`
	Room        string          `json:"room,omitempty"`
	User        string          `json:"user,omitempty"`
	Conn        string          `json:"conn,omitempty"`
	All         bool            `json:"all,omitempty"`
	MessageType string          `json:"message_type,omitempty"`
	MessageID   string          `json:"message_id,omitempty"`
	Key         string          `json:"key,omitempty"`
	TTL         int64           `json:"ttl_ms,omitempty"`
	Receipt     bool            `json:"receipt,omitempty"`
	Method      string          `json:"method,omitempty"`
	Token       string          `json:"token,omitempty"`
	Session     string          `json:"session,omitempty"`
	History     int             `json:"history,omitempty"`
	Since       *position       `json:"since,omitempty"`
	Limit       int             `json:"limit,omitempty"`
	Before      uint64          `json:"before,omitempty"`
	After       *uint64         `json:"after,omitempty"` // 0 is in front of all
	Offset      uint64          `json:"offset,omitempty"`
	Epoch       string          `json:"epoch,omitempty"`
	Content     json.RawMessage `json:"content,omitempty"`
	binary      []byte          // in place of Content; nil if there is none
}

type position = realtime.Position

// since is a position as a member of a request, nil if it is none.
func since(at position) *position {
	if at.Epoch == "" {
		return nil
	}
	return &at
}

// encode returns an error that matches realtime.ErrMessage for content that is not JSON.
func (o *outgoing) encode() (frame, error) {
	data, err := marshal(o)
	if err != nil || o.binary == nil {
		return frame{data: data}, err
	}
	buf := binary.AppendUvarint(nil, uint64(len(data)))
	return frame{binary: true, data: append(append(buf, data...), o.binary...)}, nil
}

// answer is what the client says to a call of the server's.
type answer struct {
	Type    string          `json:"type"`
	ID      json.RawMessage `json:"id"`
	Content json.RawMessage `json:"content,omitempty"`
}

// complaint is the content of an error.
type complaint struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// newAnswer returns the reply to a call, or an error if err is not nil or content not JSON. The
// server learns what a *realtime.Error says, and no more than "internal error" of any other.
func newAnswer(id, content json.RawMessage, err error) frame {
	if err == nil {
		var data []byte
		if data, err = marshal(&answer{"reply", id, content}); err == nil {
			return frame{data: data}
		}
	}
	said := complaint{"internal", "internal error"}
	if e, ok := errors.AsType[*realtime.Error](err); ok {
		said = complaint{e.Code, e.Message}
	}
	what, _ := json.Marshal(said) // two strings
	data, _ := marshal(&answer{"error", id, what})
	return frame{data: data}
}

// marshal is json.Marshal without the escapes for HTML, which would make content longer than
// the caller made it. It refuses what is not UTF-8, for which a server ends the connection.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil || !utf8.Valid(buf.Bytes()) {
		return nil, fmt.Errorf("%w: content is not JSON", realtime.ErrMessage)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// incoming is what the server sends.
type incoming struct {
	Type    string          `json:"message_type"`
	Sender  string          `json:"sender_id"`
	Content json.RawMessage `json:"content"`
	Time    int64           `json:"timestamp"`
	Guest   string          `json:"guest"`
	ID      json.RawMessage `json:"id"`
	Room    string          `json:"room"`
	Method  string          `json:"method"`

	Offset    uint64          `json:"offset"`
	Prev      uint64          `json:"prev"`
	Epoch     string          `json:"epoch"`
	From      uint64          `json:"from"`
	To        uint64          `json:"to"`
	Recovered *bool           `json:"recovered"`
	Reason    realtime.Reason `json:"reason"`
	Encoding  string          `json:"encoding"`
	Bytes     int64           `json:"bytes"`

	binary []byte // in place of Content; nil if there is none
}

// decode reports false for what is nothing that the protocol knows, such as pong. What it
// returns may be a part of f.
func decode(f frame) (in incoming, ok bool) {
	header := f.data
	if f.binary {
		n, size := binary.Uvarint(f.data)
		if size <= 0 || n > uint64(len(f.data)-size) {
			return in, false
		}
		header = f.data[size : size+int(n)]
		in.binary = f.data[size+int(n):]
	}
	if err := json.Unmarshal(header, &in); err != nil || in.Type == "" {
		return in, false
	}
	return in, !f.binary || in.isMessage()
}

// isMessage reports whether it is for the application. The types of the protocol itself are not.
func (in *incoming) isMessage() bool {
	switch in.Type {
	case "welcome", "reply", "error", "call", "joined", "left", "ping", "pong", "position", "skipped":
		return false
	case "large": // says how many bytes the next one has, unless it is the application's
		return in.Bytes == 0
	}
	return true
}

func (in *incoming) message() Message {
	m := Message{
		Type: in.Type, Sender: in.Sender, Guest: in.Guest, Room: in.Room,
		Content: in.Content, Binary: in.binary, Time: time.Unix(in.Time, 0),
	}
	if in.binary != nil {
		m.Content = nil
	}
	if in.Epoch != "" && in.Offset > 0 {
		m.Position = position{Epoch: in.Epoch, Offset: in.Offset}
	}
	_ = json.Unmarshal(in.ID, &m.ID) // what is not a string is none of ours
	return m
}

// number is the id of the request that is answered, 0 if there is none.
func (in *incoming) number() uint64 {
	n, err := strconv.ParseUint(string(in.ID), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// fault is what an error says, nil for a reply.
func (in *incoming) fault() *realtime.Error {
	if in.Type != "error" {
		return nil
	}
	said := complaint{"internal", "no reason given"}
	_ = json.Unmarshal(in.Content, &said)
	return &realtime.Error{Code: said.Code, Message: said.Message}
}

// welcome is the content of the first frame.
type welcome struct {
	MaxMessageBytes int       `json:"max_message_bytes"`
	ReconnectMS     int64     `json:"reconnect_ms"`
	Inbox           *position `json:"inbox"`   // how far it has been acknowledged; nil: there is none
	Session         string    `json:"session"` // that the next connection may resume; empty: none
}

// welcome returns nil if the server does not speak realtime.v1.
func (in *incoming) welcome() *welcome {
	var w welcome
	if in.Type != "welcome" || json.Unmarshal(in.Content, &w) != nil || w.MaxMessageBytes <= 0 {
		return nil
	}
	return &w
}

// spread is over how much time clients come back.
func (w *welcome) spread() time.Duration {
	return time.Duration(min(max(w.ReconnectMS, 0), maxWait.Milliseconds())) * time.Millisecond
}
