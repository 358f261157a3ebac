package realtime

import (
	"bytes"
	"github.com/realtime-go/realtime/broker"
	"time"
)

// protocol is the language that a connection speaks on the wire.
type protocol uint8

// The protocols, see docs/PROTOCOL.md.
const (
	protoPlain protocol = iota
	protoV1
	numProtocols
)

// command is what a client's message asks for.
type command struct {
	kind   commandKind
	text   []byte // may be a part of the message that it was decoded from
	target string
	req    *request // of a client of realtime.v1
}

// keep makes the command independent of the message that it was decoded from.
func (c *command) keep() {
	c.text = bytes.Clone(c.text)
	if r := c.req; r != nil {
		r.id, r.content, r.binary = bytes.Clone(r.id), bytes.Clone(r.content), bytes.Clone(r.binary)
	}
}

// size is what it takes while it waits, in bytes.
func (c *command) size() int {
	n := len(c.text) + len(c.target)
	if c.req != nil {
		n += c.req.size()
	}
	return n
}

type commandKind uint8

const (
	cmdNone commandKind = iota // nothing that the protocol knows
	cmdPing
	cmdChat
	cmdRequest
	cmdAnswer // to a call of the server's
)

// The codes of error replies.
const (
	codeBadRequest = "bad_request"
	codeUnknown    = "unknown_type"
	codeForbidden  = "forbidden"
	codeDenied     = "denied"
	codeExpired    = "expired"
	codeLimit      = "limit"
	codeTooLarge   = "too_large"
	codeInternal   = "internal"
	codeNoMethod   = "unknown_method"
	codeNoEvent    = "unknown_event"
	codeNoHistory  = "no_history"
	codeEpoch      = "epoch"
	codePosition   = "position"
	codeSession    = "session"
	codeNoMember   = "no_member"
)

// request is what a client of realtime.v1 asks for. Parts of it may be parts of the message
// that it was decoded from.
type request struct {
	name    string // the command
	id      []byte // a JSON string or number, nil if there is none
	room    string
	user    string
	conn    string
	all     bool
	typ     string // of the message
	content []byte // JSON
	token   string

	messageID string
	method    string
	binary    []byte // content in place of JSON, nil if there is none
	key       string
	ttl       time.Duration
	receipt   bool // what became of the message is to be said

	history       int // how many
	limit         int
	since         broker.Position // the zero one is none
	after, before uint64
	forward       bool // after is there; it may be 0
	epoch         string
	offset        uint64
	session       string

	wrong    error // why it is none
	answered bool  // already
}

func (r *request) size() int {
	return len(r.name) + len(r.id) + len(r.room) + len(r.user) + len(r.conn) +
		len(r.typ) + len(r.content) + len(r.token) + len(r.messageID) + len(r.method) + len(r.binary) +
		len(r.key) + len(r.since.Epoch) + len(r.epoch) + len(r.session)
}
