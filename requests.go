package realtime

import (
	"bytes"
	"errors"
	"fmt"
)

// roomKeeper is what requests need of the index.
type roomKeeper interface {
	join(c *Conn, room string, began decision) (joined bool, err error)
	part(c *Conn, room string) (left bool)
}

// errTarget says that a message is for nobody, or for two kinds of receivers at once.
var errTarget = errors.New("want one of room, user, conn, or all: true")

// errCommand says that there is no such command.
var errCommand = errors.New("unknown type")

// requester does what clients of realtime.v1 ask for.
type requester struct {
	*dispatcher
	rooms   roomKeeper
	denials *denials
	renew   func(c *Conn, token string) error
}

// serve does what a request asks for, and answers.
func (d *requester) serve(c *Conn, r *request) {
	err := r.wrong
	if err == nil {
		err = guard(d.notes, d.tally, c, func() error { return d.do(c, r) })
	}
	if err == nil && r.id == nil {
		return // the client does not want to know
	}
	code, message := errorReply(err)
	if code == codeInternal {
		d.failed(c, err)
	}
	answer(c, d.tally, reply(r.id, code, message))
}

func (d *requester) do(c *Conn, r *request) error {
	switch r.name {
	case "send":
		return d.sendRequest(c, r)
	case "join":
		return d.joinRequest(c, r.room)
	case "leave":
		return d.leaveRequest(c, r.room)
	case "refresh":
		return d.refreshRequest(c, r.token)
	}
	return fmt.Errorf("%w %q", errCommand, cut(r.name))
}

func (d *requester) sendRequest(c *Conn, r *request) error {
	to, err := r.target()
	if err != nil {
		return err
	}
	if err := validType(r.typ); err != nil {
		return err
	}
	if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
		return ErrForbidden
	}
	msg := Message{Type: r.typ, Sender: c.UserID(), Content: r.content}
	if d.onMessage != nil {
		msg.Content = bytes.Clone(msg.Content) // the application may keep it
		if err := d.onMessage(c.ctx, c, Inbound{Target: to, Message: msg}); err != nil {
			return &applicationError{err}
		}
		return nil
	}
	return d.send(c, to, msg)
}

// target is whom a message is for.
func (r *request) target() (Target, error) {
	named := 0
	for _, name := range []string{r.room, r.user, r.conn} {
		if name == "" {
			continue
		}
		if err := ValidName(name); err != nil {
			return Target{}, err
		}
		named++
	}
	if r.all {
		named++
	}
	switch {
	case named != 1:
		return Target{}, errTarget
	case r.all:
		return ToAll(), nil
	case r.room != "":
		return ToRoom(r.room), nil
	case r.user != "":
		return ToUser(r.user), nil
	default:
		return ToConn(r.conn), nil
	}
}

func (d *requester) joinRequest(c *Conn, room string) error {
	if err := ValidName(room); err != nil {
		return err
	}
	began := d.denials.begin()
	defer d.denials.end()
	if !d.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id}) {
		return ErrForbidden
	}
	joined, err := d.rooms.join(c, room, began)
	if joined {
		c.asksFor(room)
	}
	return err
}

func (d *requester) leaveRequest(c *Conn, room string) error {
	if err := ValidName(room); err != nil {
		return err
	}
	if !d.allowed(c, Action{Kind: ActionLeave, Room: room, Conn: c.id}) {
		return ErrForbidden
	}
	d.rooms.part(c, room)
	return nil
}

// refreshRequest renews the identity. The rooms that the client has asked for are asked for
// anew: what the old identity was allowed, the new one may not be.
func (d *requester) refreshRequest(c *Conn, token string) error {
	if token == "" {
		return fmt.Errorf("%w: no token", errMember)
	}
	if err := d.renew(c, token); err != nil {
		return err
	}
	for _, room := range c.askedFor() {
		if !d.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id}) {
			d.rooms.part(c, room)
		}
	}
	return nil
}

// applicationError is an error of code of the application, whose words are for the log.
type applicationError struct{ error }

func (e *applicationError) Unwrap() error { return e.error }

// errorReply is what a client learns of an error.
func errorReply(err error) (code, message string) {
	for _, known := range []struct {
		err  error
		code string
	}{
		{ErrForbidden, codeForbidden}, {ErrUnauthenticated, codeForbidden}, {ErrDenied, codeDenied},
		{ErrTooManyRooms, codeLimit}, {ErrTooLarge, codeTooLarge},
	} {
		if errors.Is(err, known.err) {
			return known.code, known.err.Error()[len("realtime: "):]
		}
	}
	_, application := errors.AsType[*applicationError](err)
	switch {
	case err == nil:
		return "", ""
	case application:
		return codeInternal, "internal error"
	case errors.Is(err, errCommand):
		return codeUnknown, err.Error()
	}
	for _, wrong := range []error{
		ErrName, ErrMessage, errTarget, errMember, errNoRequest, errID,
		errNotObject, errDuplicate, errDepth,
	} {
		if errors.Is(err, wrong) {
			return codeBadRequest, err.Error()
		}
	}
	return codeInternal, "internal error"
}
