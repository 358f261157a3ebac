// Package wire decodes the messages of clients and encodes the messages of the server, in the plain
// protocol and in realtime.v1.
package wire

import (
	"bytes"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// Protocol is the protocol of a connection.
type Protocol uint8

// The protocols, see docs/PROTOCOL.md.
const (
	ProtoPlain Protocol = iota
	ProtoV1
	numProtocols
)

// Command is a decoded message of a client.
type Command struct {
	Kind   CommandKind
	At     time.Time // when it arrived, or when its turn came if it had to wait
	Text   []byte    // may refer to the message from which it was decoded
	Target string
	Req    *Request // only realtime.v1
}

// Keep makes the command independent of the message from which it was decoded.
func (c *Command) Keep() {
	c.Text = bytes.Clone(c.Text)
	if r := c.Req; r != nil {
		r.ID, r.Content, r.Binary = bytes.Clone(r.ID), bytes.Clone(r.Content), bytes.Clone(r.Binary)
		if r.State != nil {
			r.State.Own = bytes.Clone(r.State.Own)
		}
	}
}

// Size returns how much memory the command takes while it waits, in bytes.
func (c *Command) Size() int {
	n := len(c.Text) + len(c.Target)
	if c.Req != nil {
		n += c.Req.size()
	}
	return n
}

// Ephemeral reports whether the command is an ephemeral message.
func (c *Command) Ephemeral() bool { return c.Req != nil && c.Req.Ephemeral }

// CommandKind is the kind of a command.
type CommandKind uint8

const (
	CmdNone CommandKind = iota // unknown to the protocol
	CmdPing
	CmdChat
	CmdRequest
	CmdAnswer // to a call of the server
	CmdSeen   // Request.Offset state frames have arrived
)

// The codes of error replies.
const (
	CodeBadRequest = "bad_request"
	CodeUnknown    = "unknown_type"
	CodeForbidden  = "forbidden"
	CodeDenied     = "denied"
	CodeExpired    = "expired"
	CodeLimit      = "limit"
	CodeTooLarge   = "too_large"
	CodeInternal   = "internal"
	CodeNoMethod   = "unknown_method"
	CodeNoEvent    = "unknown_event"
	CodeNoHistory  = "no_history"
	// CodeUnavailable is for what can be tried again with the same id.
	CodeUnavailable = "unavailable"
	CodeEpoch       = "epoch"
	CodePosition    = "position"
	CodeSession     = "session"
	CodeNoMember    = "no_member"
)

// Request is a request of a client of realtime.v1. It may refer to the message from which it was
// decoded.
type Request struct {
	Name    string // the type of the request
	ID      []byte // a JSON string or number; nil: none
	Room    string
	User    string
	Conn    string
	All     bool
	Server  bool
	Typ     string // of the message
	Content []byte // JSON
	Token   string

	MessageID string
	Method    string
	Binary    []byte // content instead of JSON; nil: none
	TTL       time.Duration
	Receipt   bool // the client wants the result
	Ephemeral bool
	Latest    string     // the key of a latest value
	State     *RoomState // nil: none of its members

	History       int // the number of messages
	Limit         int
	Since         broker.Position // zero: none
	After, Before uint64
	Forward       bool // after is present; it may be 0
	Epoch         string
	Offset        uint64 // or the number of frames
	Session       string

	At       time.Time // see Command
	Wrong    error     // why the request is invalid; nil: it is valid
	Answered bool      // the request has been answered
}

// RoomState is what a request asks and says about the state of a room.
type RoomState struct {
	Watch     bool   // the client asks for presence
	Presence  uint64 // the version of the entries that it has; 0: none
	HasValues bool   // it names the version of the values that it has
	Values    uint64
	Own       []byte // its state as JSON; nil: it says nothing about that
}

func (r *Request) size() int {
	n := 0
	if r.State != nil {
		n = 64 + len(r.State.Own)
	}
	return n + len(r.Name) + len(r.ID) + len(r.Room) + len(r.User) + len(r.Conn) +
		len(r.Typ) + len(r.Content) + len(r.Token) + len(r.MessageID) + len(r.Method) + len(r.Binary) +
		len(r.Latest) + len(r.Since.Epoch) + len(r.Epoch) + len(r.Session)
}
