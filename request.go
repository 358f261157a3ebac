package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/wire"
)

// commands does what clients ask for.
type commands struct {
	m        *Manager
	requests *requests
}

func newCommands(m *Manager) *commands {
	d := &commands{m: m}
	d.requests = newRequests(d)
	return d
}

// run does one command of c.
func (d *commands) run(c *Conn, cmd wire.Command) {
	switch cmd.Kind {
	case wire.CmdPing:
		c.answer(wire.Pong())
	case wire.CmdChat:
		d.chat(c, cmd)
	case wire.CmdRequest:
		d.requests.serve(c, cmd.Req)
	}
}

func (d *commands) chat(c *Conn, cmd wire.Command) {
	var to Target
	switch cmd.Target {
	case wire.TargetAll:
		to = ToAll()
	case wire.TargetRoom:
		to = ToRoom(c.currentRoom())
	default:
		if names.CheckUser(cmd.Target) == nil { // else nobody: there can be no such user
			to = ToUser(cmd.Target)
		}
	}
	msg := chat(c.UserID(), cmd.Text)
	msg.Guest = c.sender().Guest
	err := c.guard(func() error {
		if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
			return nil // and a plain client is not told
		}
		if d.m.opts.OnMessage != nil {
			return d.m.opts.OnMessage(c.session.Context(), c, Inbound{Text: string(cmd.Text), Target: to, Message: msg})
		}
		_, err := d.send(c, to, msg)
		return err
	})
	if err != nil {
		d.failed(c, err)
	}
}

// send is what becomes of a message if the application does not see it.
func (d *commands) send(c *Conn, to Target, msg Message) (Result, error) {
	res, err := d.m.relay(c.session.Context(), to, msg)
	c.session.Bill().Receivers(res.Matched)
	return res, err
}

// failed counts what failed for another reason than that it may not be.
func (d *commands) failed(c *Conn, err error) {
	d.m.counters.Add(metrics.Failed, 1)
	d.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: message failed",
		slog.String("conn", c.id), slog.Any("error", err))
}

// allowed asks the authorizer.
func (d *commands) allowed(c *Conn, a Action) bool {
	if d.m.opts.Authorize == nil {
		d.m.counters.Add(metrics.Denied, 1)
		d.m.log.Once(slog.LevelWarn, "authorize", "", "realtime: a client's action was refused "+
			"because nothing allows it: set Options.Authorize")
		return false
	}
	if err := d.m.opts.Authorize(c.session.Context(), c, a); err != nil {
		d.m.counters.Add(metrics.Denied, 1)
		d.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: action refused",
			slog.String("conn", c.id), slog.String("action", string(a.Kind)),
			slog.Any("error", err))
		return false
	}
	return true
}

// errTarget says that a message is for nobody, or for two kinds of receivers at once.
var errTarget = errors.New("want one of room, user, conn, or all: true")

// errToken says that there is none.
var errToken = errors.New("no token")

// errSession says that nothing is left of the session, or it is somebody else's.
var errSession = errors.New("realtime: no such session, or too late")

// errCommand says that there is no such command.
var errCommand = errors.New("unknown type")

// requests does what clients of realtime.v1 ask for.
type requests struct {
	m        *Manager
	commands *commands
	receipts *dedup.Cache
}

func newRequests(d *commands) *requests {
	return &requests{
		m: d.m, commands: d, receipts: dedup.New(&d.m.counters.Queues.Budget, d.m.wheel),
	}
}

func (d *requests) mayJoin(c *Conn, room string) bool {
	return d.commands.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id})
}

// targetOf returns the target of a message.
func targetOf(r *wire.Request) (to Target, err error) {
	named := 0
	for _, kind := range []struct {
		member, name string
		valid        func(string) error
		to           func(...string) Target
	}{
		{"room", r.Room, ValidName, ToRoom},
		{"user", r.User, names.CheckUser, ToUser},
		{"conn", r.Conn, ValidName, ToConn},
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
	if r.All {
		to = ToAll()
		named++
	}
	if named != 1 {
		return Target{}, errTarget
	}
	return to, nil
}

// applicationError is an error of code of the application, whose words are for the log.
type applicationError struct{ error }

func (e *applicationError) Unwrap() error { return e.error }

// serve does what a request asks for, and answers.
func (d *requests) serve(c *Conn, r *wire.Request) {
	var content json.RawMessage
	var e *Error
	err := c.guard(func() (err error) {
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
		d.commands.failed(c, err)
	}
	c.answer(wire.Reply(r.ID, content, (*wire.Error)(e)))
}

func (d *requests) do(c *Conn, r *wire.Request) (content json.RawMessage, err error) {
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
		return nil, d.m.inboxes.ack(c.session.Context(), c, broker.Position{Epoch: r.Epoch, Offset: r.Offset})
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
func (d *requests) callRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
	if err := names.CheckMethod(r.Method); err != nil {
		return nil, about("method", err)
	}
	if !d.commands.allowed(c, Action{Kind: ActionCall, Method: r.Method}) {
		return nil, ErrForbidden
	}
	if d.m.opts.OnCall == nil {
		return nil, noMethod(r.Method)
	}
	content, err := d.m.opts.OnCall(c.session.Context(), c, Inbound{
		Method: r.Method, Message: Message{Sender: c.UserID(), Content: bytes.Clone(r.Content)},
	})
	if err == nil {
		err = checkMessage(&Message{Content: content}, d.m.opts.Limits.QueueBytes/2)
	}
	if err != nil {
		return nil, &applicationError{err}
	}
	return content, nil
}

// refreshRequest renews the identity. The rooms that the client has asked for are asked for
// anew: what the old identity was allowed, the new one may not be.
func (d *requests) refreshRequest(c *Conn, token string) error {
	if token == "" {
		return errToken
	}
	if err := d.m.registry.renew(c, token); err != nil {
		return err
	}
	rooms := c.askedFor()
	c.session.Bill().Decisions(len(rooms))
	for _, room := range rooms {
		if !d.mayJoin(c, room) {
			d.m.joins.leave(c, room, nil)
		}
	}
	return nil
}

// resumeRequest gives the client the place of the connection that it has lost. The rooms that it
// had asked for are asked for anew.
func (d *requests) resumeRequest(c *Conn, token string) (json.RawMessage, error) {
	rooms, err := d.m.detached.resume(c, token, func(room string) bool { return d.mayJoin(c, room) })
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
	if said, ok := errors.AsType[*Error](err); ok && said != nil && application && names.ValidCode(said.Code) {
		return said
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{ErrForbidden, wire.CodeForbidden}, {ErrUnauthenticated, wire.CodeForbidden}, {ErrDenied, wire.CodeDenied},
		{ErrTooManyRooms, wire.CodeLimit}, {ErrTooLarge, wire.CodeTooLarge}, {errShare, wire.CodeLimit},
		{ErrFull, wire.CodeLimit},
		{dedup.ErrFull, wire.CodeLimit}, {ErrNoHistory, wire.CodeNoHistory}, {ErrInvalidPosition, wire.CodePosition},
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
		ErrInvalidName, ErrInvalidMessage, errTarget, errToken, wire.ErrMember, wire.ErrNoRequest, wire.ErrID,
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

// sendRequest sends a client's message, once if it has an id.
func (d *requests) sendRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
	to, err := targetOf(r)
	if err != nil {
		return nil, err
	}
	if err := validClientType(r.Typ); err != nil {
		return nil, about("message_type", err)
	}
	if err := validID(r.MessageID); err != nil {
		return nil, about("message_id", err)
	}
	if err := validMessageKey(r.Key); err != nil {
		return nil, about("key", err)
	}
	if !d.commands.allowed(c, Action{Kind: ActionSend, Target: to}) {
		return nil, ErrForbidden
	}
	if r.MessageID == "" {
		return d.pass(c, r, to)
	}
	key := dedup.Key{Sender: c.sender(), ID: r.MessageID}
	return d.receipts.Do(c.session.Context(), key, func() (json.RawMessage, error) { return d.pass(c, r, to) })
}

// pass gives a message to the application, or sends it.
func (d *requests) pass(c *Conn, r *wire.Request, to Target) (json.RawMessage, error) {
	by := c.sender()
	msg := Message{
		Type: cmp.Or(r.Typ, wire.TypeChat), Sender: by.User, Guest: by.Guest, ID: r.MessageID,
		Content: r.Content, Binary: r.Binary, Key: r.Key, TTL: r.TTL,
	}
	if d.m.opts.OnMessage != nil { // the application may keep it
		msg.Content, msg.Binary = bytes.Clone(msg.Content), bytes.Clone(msg.Binary)
		if err := d.m.opts.OnMessage(c.session.Context(), c, Inbound{Target: to, Message: msg}); err != nil {
			return nil, &applicationError{err}
		}
		return nil, nil
	}
	res, err := d.commands.send(c, to, msg)
	if err != nil || !r.Receipt {
		return nil, err
	}
	if r.User != "" {
		return wire.UserReceipt(res.Kept > 0 || res.Duplicate, res.Queued, res.Duplicate), nil
	}
	return wire.Receipt(broker.Position(res.Position), res.Duplicate), nil
}
