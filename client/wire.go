package client

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// frame is a WebSocket message.
type frame struct {
	binary bool
	data   []byte
}

// ping is answered with pong by every server.
var ping = frame{data: []byte(wire.FramePing)}

// outgoing is a request.
type outgoing struct {
	Type        string          `json:"type"`
	ID          uint64          `json:"id,omitempty"`
	Room        string          `json:"room,omitempty"`
	User        string          `json:"user,omitempty"`
	Conn        string          `json:"conn,omitempty"`
	All         bool            `json:"all,omitempty"`
	Server      bool            `json:"server,omitempty"`
	MessageType string          `json:"message_type,omitempty"`
	MessageID   string          `json:"message_id,omitempty"`
	Latest      any             `json:"latest,omitempty"`   // the key of a value; a version in a join
	Presence    any             `json:"presence,omitempty"` // true or a version
	State       json.RawMessage `json:"state,omitempty"`
	Frames      int             `json:"frames,omitempty"`
	TTL         int64           `json:"ttl_ms,omitempty"`
	Ephemeral   bool            `json:"ephemeral,omitempty"`
	Receipt     bool            `json:"receipt,omitempty"`
	Method      string          `json:"method,omitempty"`
	Token       string          `json:"token,omitempty"`
	Session     string          `json:"session,omitempty"`
	History     int             `json:"history,omitempty"`
	Since       *position       `json:"since,omitempty"`
	Limit       int             `json:"limit,omitempty"`
	Before      uint64          `json:"before,omitempty"`
	After       *uint64         `json:"after,omitempty"` // 0 is before all messages
	Offset      uint64          `json:"offset,omitempty"`
	Epoch       string          `json:"epoch,omitempty"`
	Content     json.RawMessage `json:"content,omitempty"`
	binary      []byte          // used instead of Content; nil if there is none
}

type position = realtime.Position

// since returns a position as a member of a request, or nil if the position has no epoch.
func since(at position) *position {
	if at.Epoch == "" {
		return nil
	}
	return &at
}

// encode returns an error that matches realtime.ErrInvalidMessage if the content is not JSON.
func (o *outgoing) encode() (frame, error) {
	data, err := marshal(o)
	if err != nil || o.binary == nil {
		return frame{data: data}, err
	}
	return newBinary(data, o.binary), nil
}

// newBinary returns the frame of a header and the bytes that follow it.
func newBinary(header, content []byte) frame {
	data := binary.AppendUvarint(nil, uint64(len(header)))
	return frame{binary: true, data: append(append(data, header...), content...)}
}

// answerFrame is the client's answer to a call from the server.
type answerFrame struct {
	Type    string          `json:"type"`
	ID      json.RawMessage `json:"id"`
	Content json.RawMessage `json:"content,omitempty"`
}

// newAnswer returns a reply, or an error frame if err is not nil or result cannot be encoded. The
// server receives a *realtime.Error, without its data if that is not JSON. Any other error becomes
// "internal error".
func newAnswer(id json.RawMessage, result any, err error) frame {
	if err == nil {
		f, ok := newReply(id, result)
		if ok {
			return f
		}
	}
	reason := wire.Error{Code: wire.CodeInternal, Message: "internal error"}
	if e, ok := errors.AsType[*realtime.Error](err); ok && e != nil {
		reason = wire.Error(*e)
		if !utf8.Valid(e.Data) || !wire.ValidJSON(e.Data) {
			reason.Data = nil
		}
	}
	data, err := marshal(&answerFrame{wire.FrameError, id, reason.AppendContent(nil)})
	if err != nil { // the data nests too deep
		reason.Data = nil
		data, _ = marshal(&answerFrame{wire.FrameError, id, reason.AppendContent(nil)})
	}
	return frame{data: data}
}

// newReply reports false if the result cannot be encoded.
func newReply(id json.RawMessage, result any) (f frame, ok bool) {
	content, err := wire.ContentOf(result)
	if err != nil {
		return f, false
	}
	data, err := marshal(&answerFrame{wire.FrameReply, id, content.JSON})
	if err != nil {
		return f, false
	}
	if content.Binary != nil {
		return newBinary(data, content.Binary), true
	}
	return frame{data: data}, true
}

// marshal is json.Marshal without escapes for HTML, which would make content longer. It refuses
// invalid UTF-8, for which a server would close the connection.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil || !utf8.Valid(buf.Bytes()) {
		return nil, fmt.Errorf("%w: content is not JSON", realtime.ErrInvalidMessage)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// incoming is a frame from the server.
type incoming struct {
	Type    string          `json:"message_type"`
	Sender  string          `json:"sender_id"`
	Content json.RawMessage `json:"content"`
	Time    float64         `json:"timestamp"` // in seconds
	Guest   string          `json:"guest"`
	Conn    string          `json:"conn"`
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
	Ephemeral bool            `json:"ephemeral"`
	Latest    string          `json:"latest"`

	binary []byte // used instead of Content; nil if there is none
}

// decode reports false for a frame that the client ignores, such as pong. The result may refer to
// f.data.
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
	if !f.binary {
		return in, true
	}
	in.Content = nil
	return in, in.isMessage() || in.Type == wire.FrameReply || in.Type == wire.FrameCall
}

// isStateFrame reports whether the client acknowledges the frame.
func (in *incoming) isStateFrame() bool {
	return in.Type == wire.FramePresence || in.Type == wire.FrameLatest ||
		in.Latest != "" && in.isMessage()
}

// isMessage reports whether the frame is a message for the application, not a frame of the
// protocol.
func (in *incoming) isMessage() bool {
	return wire.IsMessage(in.Type) && (in.Type != wire.FrameLarge || in.Bytes == 0)
}

func (in *incoming) message() Message {
	m := Message{
		Type: in.Type, Sender: in.Sender, Guest: in.Guest, Conn: in.Conn, Room: in.Room,
		Content: in.Content, Binary: in.binary, Time: time.UnixMilli(int64(math.Round(in.Time * 1000))),
	}
	if in.binary != nil {
		m.Content = nil
	}
	m.Ephemeral, m.Latest = in.Ephemeral, in.Latest
	if in.Epoch != "" && in.Offset > 0 {
		m.Position = position{Epoch: in.Epoch, Offset: in.Offset}
	}
	_ = json.Unmarshal(in.ID, &m.ID) // an ID that is not a string is ignored
	return m
}

// requestID returns the ID of the answered request, or 0 if there is none.
func (in *incoming) requestID() uint64 {
	n, err := strconv.ParseUint(string(in.ID), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// failure returns the error of an error frame, and nil for a reply.
func (in *incoming) failure() *realtime.Error {
	if in.Type != wire.FrameError {
		return nil
	}
	e, _ := wire.DecodeError(in.Content)
	e.Code = cmp.Or(e.Code, wire.CodeInternal)
	e.Message = cmp.Or(e.Message, "no reason given")
	return (*realtime.Error)(&e)
}

// refusedIn returns the room of an error frame without the id of a request, or an empty string. A
// state, a latest value or an ephemeral message was refused there.
func (in *incoming) refusedIn() string {
	var content struct {
		Room string `json:"room"`
	}
	if json.Unmarshal(in.Content, &content) != nil {
		return ""
	}
	return content.Room
}

// welcome is the content of the first frame.
type welcome struct {
	MaxMessageBytes int       `json:"max_message_bytes"`
	ReconnectMS     int64     `json:"reconnect_ms"`
	Inbox           *position `json:"inbox"`   // acknowledged position; nil if there is no inbox
	Session         string    `json:"session"` // for resuming; may be empty
}

// welcome returns nil if the server does not speak realtime.v1.
func (in *incoming) welcome() *welcome {
	var w welcome
	if in.Type != wire.TypeWelcome || json.Unmarshal(in.Content, &w) != nil || w.MaxMessageBytes <= 0 {
		return nil
	}
	return &w
}

// spread returns the period over which the server's clients should reconnect.
func (w *welcome) spread() time.Duration {
	return time.Duration(min(max(w.ReconnectMS, 0), maxWait.Milliseconds())) * time.Millisecond
}
