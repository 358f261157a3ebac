package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/ratelog"
	"strings"
)

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
		return d.sendRequest(c, r)
	case "join":
		return nil, d.joinRequest(c, r)
	case "recover":
		return nil, d.recoverRequest(c, r)
	case "leave":
		return nil, d.leaveRequest(c, r)
	case "ack":
		return nil, d.rooms.ack(c.ctx, c, Position{r.epoch, r.offset})
	case "history":
		return nil, d.historyRequest(c, r)
	case "presence":
		return nil, d.presenceRequest(c, r)
	case "call":
		return d.callRequest(c, r)
	case "resume":
		return d.resumeRequest(c, r.session)
	case "refresh":
		return nil, d.refreshRequest(c, r.token)
	case "ping":
		return nil, nil
	}
	return nil, fmt.Errorf("%w %q", errCommand, ratelog.Clip(r.name))
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
	content, err := d.onCall(c.ctx, c, Inbound{
		Method: r.method, Message: Message{Sender: c.UserID(), Content: bytes.Clone(r.content)},
	})
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
	rooms := c.askedFor()
	c.bill.messages.Add(int64(len(rooms)))
	for _, room := range rooms {
		if !d.mayJoin(c, room) {
			d.rooms.part(c, room, nil)
		}
	}
	return nil
}

// resumeRequest gives the client the place of the connection that it has lost. The rooms that it
// had asked for are asked for anew.
func (d *requester) resumeRequest(c *Conn, token string) (json.RawMessage, error) {
	rooms, err := d.resume(c, token, d.mayJoin)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Rooms []string `json:"rooms"`
	}{rooms})
}

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
		{ErrTooManyRooms, codeLimit}, {ErrTooLarge, codeTooLarge}, {errShare, codeLimit},
		{ErrFull, codeLimit},
		{dedup.ErrFull, codeLimit}, {ErrNoHistory, codeNoHistory}, {ErrPosition, codePosition},
		{errEpoch, codeEpoch}, {errSession, codeSession}, {errNoMember, codeNoMember},
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
		errNotObject, errDuplicate, errDepth, errSurrogate, errHeader, errBinary,
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
