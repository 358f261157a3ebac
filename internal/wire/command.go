// Package wire reads what clients send and writes what they get, in the plain protocol and in realtime.v1.
package wire

import (
	"bytes"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// Protocol is the language that a connection speaks on the wire.
type Protocol uint8

// The protocols, see docs/PROTOCOL.md.
const (
	ProtoPlain Protocol = iota
	ProtoV1
	numProtocols
)

// Command is what a client's message asks for.
type Command struct {
	Kind   CommandKind
	Text   []byte // may be a part of the message that it was decoded from
	Target string
	Req    *Request // of a client of realtime.v1
}

// Keep makes the command independent of the message that it was decoded from.
func (c *Command) Keep() {
	c.Text = bytes.Clone(c.Text)
	if r := c.Req; r != nil {
		r.ID, r.Content, r.Binary = bytes.Clone(r.ID), bytes.Clone(r.Content), bytes.Clone(r.Binary)
	}
}

// Size is what it takes while it waits, in bytes.
func (c *Command) Size() int {
	n := len(c.Text) + len(c.Target)
	if c.Req != nil {
		n += c.Req.size()
	}
	return n
}

// CommandKind tells commands apart.
type CommandKind uint8

const (
	CmdNone CommandKind = iota // nothing that the protocol knows
	CmdPing
	CmdChat
	CmdRequest
	CmdAnswer // to a call of the server's
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
	CodeEpoch      = "epoch"
	CodePosition   = "position"
	CodeSession    = "session"
	CodeNoMember   = "no_member"
)

// Request is what a client of realtime.v1 asks for. Parts of it may be parts of the message
// that it was decoded from.
type Request struct {
	Name    string // the command
	ID      []byte // a JSON string or number, nil if there is none
	Room    string
	User    string
	Conn    string
	All     bool
	Typ     string // of the message
	Content []byte // JSON
	Token   string

	MessageID string
	Method    string
	Binary    []byte // content in place of JSON, nil if there is none
	Key       string
	TTL       time.Duration
	Receipt   bool // what became of the message is to be said

	History       int // how many
	Limit         int
	Since         broker.Position // the zero one is none
	After, Before uint64
	Forward       bool // after is there; it may be 0
	Epoch         string
	Offset        uint64
	Session       string

	Wrong    error // why it is none
	Answered bool  // already
}

func (r *Request) size() int {
	return len(r.Name) + len(r.ID) + len(r.Room) + len(r.User) + len(r.Conn) +
		len(r.Typ) + len(r.Content) + len(r.Token) + len(r.MessageID) + len(r.Method) + len(r.Binary) +
		len(r.Key) + len(r.Since.Epoch) + len(r.Epoch) + len(r.Session)
}
