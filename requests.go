package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/realtime-go/realtime/internal/engine"
)

// roomKeeper is what requests need of the index.
type roomKeeper interface {
	joinAsked(c *Conn, room string, began decision, answer *engine.Frame) error
	part(c *Conn, room string, asked bool) (left bool)
	inspect(room string, see func(users []string, n Count))
}

// errTarget says that a message is for nobody, or for two kinds of receivers at once.
var errTarget = errors.New("want one of room, user, conn, or all: true")

// errToken says that there is none.
var errToken = errors.New("no token")

// errCommand says that there is no such command.
var errCommand = errors.New("unknown type")

// requester does what clients of realtime.v1 ask for.
type requester struct {
	*dispatcher
	rooms   roomKeeper
	denials *denials
	renew   func(c *Conn, token string) error

	receipts *receipts

	onCall    Handler
	announced bool // who comes and goes in rooms
	maxBytes  int  // of an answer
}

// serve does what a request asks for, and answers.
func (d *requester) serve(c *Conn, r *request) {
	var content json.RawMessage
	var e *Error
	err := guard(d.notes, d.tally, c, func() (err error) {
		if err = r.wrong; err == nil {
			content, err = d.do(c, r)
		}
		e = errorReply(err) // asks errors of the application what they match
		return err
	})
	if err == nil && (r.id == nil || r.answered) {
		return // the client does not want to know, or knows
	}
	if err != nil && e == nil { // it has panicked
		e = &Error{codeInternal, "internal error"}
	}
	if e != nil && e.Code == codeInternal {
		d.failed(c, err)
	}
	answer(c, d.tally, reply(r.id, content, e))
}

func (d *requester) do(c *Conn, r *request) (content json.RawMessage, err error) {
	switch r.name {
	case "send":
		return nil, d.sendRequest(c, r)
	case "join":
		return nil, d.joinRequest(c, r)
	case "leave":
		return nil, d.leaveRequest(c, r.room)
	case "presence":
		return nil, d.presenceRequest(c, r)
	case "call":
		return d.callRequest(c, r)
	case "refresh":
		return nil, d.refreshRequest(c, r.token)
	case "ping":
		return nil, nil
	}
	return nil, fmt.Errorf("%w %q", errCommand, cut(r.name))
}

func (d *requester) sendRequest(c *Conn, r *request) error {
	to, err := r.target()
	if err != nil {
		return err
	}
	if err := validClientType(r.typ); err != nil {
		return about("message_type", err)
	}
	if err := validID(r.messageID); err != nil {
		return about("message_id", err)
	}
	if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
		return ErrForbidden
	}
	if r.messageID == "" {
		return d.pass(c, r, to)
	}
	key := receiptKey{c.UserID(), r.messageID}
	return d.receipts.once(c.ctx, key, func() error { return d.pass(c, r, to) })
}

// pass gives a message to the application, or sends it.
func (d *requester) pass(c *Conn, r *request, to Target) error {
	msg := Message{
		Type: cmp.Or(r.typ, typeChat), Sender: c.UserID(), ID: r.messageID, Content: r.content, Binary: r.binary,
	}
	if d.onMessage != nil { // the application may keep it
		msg.Content, msg.Binary = bytes.Clone(msg.Content), bytes.Clone(msg.Binary)
		if err := d.onMessage(c.ctx, c, Inbound{Target: to, Message: msg}); err != nil {
			return &applicationError{err}
		}
		return nil
	}
	return d.send(c, to, msg)
}

// target is whom a message is for.
func (r *request) target() (to Target, err error) {
	named := 0
	for _, kind := range []struct {
		member, name string
		valid        func(string) error
		to           func(...string) Target
	}{
		{"room", r.room, ValidName, ToRoom}, {"user", r.user, validUser, ToUser}, {"conn", r.conn, ValidName, ToConn},
	} {
		if kind.name == "" {
			continue
		}
		if err := kind.valid(kind.name); err != nil {
			return Target{}, about(kind.member, err)
		}
		to = kind.to(kind.name)
		named++
	}
	if r.all {
		to = ToAll()
		named++
	}
	if named != 1 {
		return Target{}, errTarget
	}
	return to, nil
}

// about says which member of a request an error is about.
func about(name string, err error) error { return fmt.Errorf("%s: %w", name, err) }

func (d *requester) joinRequest(c *Conn, r *request) error {
	if err := ValidName(r.room); err != nil {
		return about("room", err)
	}
	began := d.denials.begin()
	defer d.denials.end()
	if !d.allowed(c, Action{Kind: ActionJoin, Room: r.room, Conn: c.id}) {
		return ErrForbidden
	}
	var done *engine.Frame
	if r.id != nil {
		done = reply(r.id, nil, nil)
	}
	err := d.rooms.joinAsked(c, r.room, began, done)
	r.answered = err == nil
	return err
}

func (d *requester) leaveRequest(c *Conn, room string) error {
	if err := ValidName(room); err != nil {
		return about("room", err)
	}
	if !d.allowed(c, Action{Kind: ActionLeave, Room: room, Conn: c.id}) {
		return ErrForbidden
	}
	d.rooms.part(c, room, true)
	return nil
}

// presenceRequest answers with who is in a room. The answer takes its place among the
// announcements of the room: what is announced behind it, it does not know.
func (d *requester) presenceRequest(c *Conn, r *request) error {
	if err := ValidName(r.room); err != nil {
		return about("room", err)
	}
	if !d.allowed(c, Action{Kind: ActionMembers, Room: r.room}) {
		return ErrForbidden
	}
	if !d.announced {
		d.notes.hint(slog.LevelWarn, "presence", "", "realtime: a client asked who is in a room, and will not "+
			"hear who comes and goes: set Options.Announce to AnnounceRooms")
	}
	if r.id == nil {
		return nil
	}
	r.answered = true
	d.rooms.inspect(r.room, func(users []string, n Count) {
		c.reached.Add(int64(len(users))) // it costs as much as a message to so many
		answer(c, d.tally, reply(r.id, presence(users, n.Users, n.Conns), nil))
	})
	return nil
}

// callRequest gives a call to the application.
func (d *requester) callRequest(c *Conn, r *request) (json.RawMessage, error) {
	if err := validMethod(r.method); err != nil {
		return nil, about("method", err)
	}
	if !d.allowed(c, Action{Kind: ActionCall, Method: r.method}) {
		return nil, ErrForbidden
	}
	if d.onCall == nil {
		return nil, noMethod(r.method)
	}
	in := Inbound{Method: r.method, Message: Message{Sender: c.UserID(), Content: bytes.Clone(r.content)}}
	content, err := d.onCall(c.ctx, c, in)
	if err == nil {
		err = (&Message{Content: content}).check(d.maxBytes)
	}
	if err != nil {
		return nil, &applicationError{err}
	}
	return content, nil
}

// refreshRequest renews the identity. The rooms that the client has asked for are asked for
// anew: what the old identity was allowed, the new one may not be.
func (d *requester) refreshRequest(c *Conn, token string) error {
	if token == "" {
		return errToken
	}
	if err := d.renew(c, token); err != nil {
		return err
	}
	for _, room := range c.askedFor() {
		if !d.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id}) {
			d.rooms.part(c, room, false)
		}
	}
	return nil
}

// applicationError is an error of code of the application, whose words are for the log.
type applicationError struct{ error }

func (e *applicationError) Unwrap() error { return e.error }

// errorReply is what a client learns of an error, nil for none.
func errorReply(err error) *Error {
	if err == nil {
		return nil
	}
	_, application := errors.AsType[*applicationError](err)
	if said, ok := errors.AsType[*Error](err); ok && said != nil && application && validCode(said.Code) {
		return said
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{ErrForbidden, codeForbidden}, {ErrUnauthenticated, codeForbidden}, {ErrDenied, codeDenied},
		{ErrTooManyRooms, codeLimit}, {ErrTooLarge, codeTooLarge},
	} {
		if errors.Is(err, known.err) {
			return &Error{known.code, known.err.Error()[len("realtime: "):]}
		}
	}
	if application {
		return &Error{codeInternal, "internal error"}
	}
	for _, wrong := range []error{
		ErrName, ErrMessage, errTarget, errToken, errMember, errNoRequest, errID,
		errNotObject, errDuplicate, errDepth, errHeader, errBinary,
	} {
		if errors.Is(err, wrong) {
			return &Error{codeBadRequest, strings.Replace(err.Error(), "realtime: ", "", 1)}
		}
	}
	if errors.Is(err, errCommand) {
		return &Error{codeUnknown, err.Error()}
	}
	if said, ok := errors.AsType[*Error](err); ok && said != nil {
		return said
	}
	return &Error{codeInternal, "internal error"}
}
