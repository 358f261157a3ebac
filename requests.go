package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/wire"
)

// serve does what a request asks for, and answers.
func (d *requester) serve(c *Conn, r *wire.Request) {
	var content json.RawMessage
	var e *Error
	err := guard(d.notes, d.counters, c, func() (err error) {
		if err = r.Wrong; err == nil {
			content, err = d.do(c, r)
		}
		e = errorReply(err) // asks errors of the application what they match
		return err
	})
	if err == nil && (r.ID == nil || r.Answered) {
		return // the client does not want to know, or knows
	}
	if err != nil && e == nil { // it has panicked
		e = &Error{wire.CodeInternal, "internal error"}
	}
	if e != nil && e.Code == wire.CodeInternal {
		d.failed(c, err)
	}
	answer(c, d.counters, wire.Reply(r.ID, content, (*wire.Error)(e)))
}

func (d *requester) do(c *Conn, r *wire.Request) (content json.RawMessage, err error) {
	switch r.Name {
	case wire.RequestSend:
		return d.sendRequest(c, r)
	case wire.RequestJoin:
		return nil, d.joinRequest(c, r)
	case wire.RequestRecover:
		return nil, d.recoverRequest(c, r)
	case wire.RequestLeave:
		return nil, d.leaveRequest(c, r)
	case wire.RequestAck:
		return nil, d.rooms.ack(c.ctx, c, broker.Position{Epoch: r.Epoch, Offset: r.Offset})
	case wire.RequestHistory:
		return nil, d.historyRequest(c, r)
	case wire.RequestPresence:
		return nil, d.presenceRequest(c, r)
	case wire.FrameCall:
		return d.callRequest(c, r)
	case wire.RequestResume:
		return d.resumeRequest(c, r.Session)
	case wire.RequestRefresh:
		return nil, d.refreshRequest(c, r.Token)
	case wire.FramePing:
		return nil, nil
	}
	return nil, fmt.Errorf("%w %q", errCommand, ratelog.Clip(r.Name))
}

// callRequest gives a call to the application.
func (d *requester) callRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
	if err := validMethod(r.Method); err != nil {
		return nil, about("method", err)
	}
	if !d.allowed(c, Action{Kind: ActionCall, Method: r.Method}) {
		return nil, ErrForbidden
	}
	if d.onCall == nil {
		return nil, noMethod(r.Method)
	}
	content, err := d.onCall(c.ctx, c, Inbound{
		Method: r.Method, Message: Message{Sender: c.UserID(), Content: bytes.Clone(r.Content)},
	})
	if err == nil {
		err = checkMessage(&Message{Content: content}, d.maxBytes)
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
		{ErrForbidden, wire.CodeForbidden}, {ErrUnauthenticated, wire.CodeForbidden}, {ErrDenied, wire.CodeDenied},
		{ErrTooManyRooms, wire.CodeLimit}, {ErrTooLarge, wire.CodeTooLarge}, {errShare, wire.CodeLimit},
		{ErrFull, wire.CodeLimit},
		{dedup.ErrFull, wire.CodeLimit}, {ErrNoHistory, wire.CodeNoHistory}, {ErrPosition, wire.CodePosition},
		{errEpoch, wire.CodeEpoch}, {errSession, wire.CodeSession}, {errNoMember, wire.CodeNoMember},
	} {
		if errors.Is(err, known.err) {
			return &Error{known.code, known.err.Error()[len("realtime: "):]}
		}
	}
	if application {
		return &Error{wire.CodeInternal, "internal error"}
	}
	for _, wrong := range []error{
		ErrName, ErrMessage, errTarget, errToken, wire.ErrMember, wire.ErrNoRequest, wire.ErrID,
		wire.ErrNotObject, wire.ErrDuplicate, wire.ErrDepth, wire.ErrSurrogate, wire.ErrHeader, wire.ErrBinary,
	} {
		if errors.Is(err, wrong) {
			return &Error{wire.CodeBadRequest, strings.Replace(err.Error(), "realtime: ", "", 1)}
		}
	}
	if errors.Is(err, errCommand) {
		return &Error{wire.CodeUnknown, err.Error()}
	}
	if said, ok := errors.AsType[*Error](err); ok && said != nil {
		return said
	}
	return &Error{wire.CodeInternal, "internal error"}
}
