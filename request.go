package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/wire"
)

// commands executes the commands of clients.
type commands struct {
	m        *Manager
	requests *requests
}

func newCommands(m *Manager) *commands {
	cs := &commands{m: m}
	cs.requests = newRequests(cs)
	return cs
}

// run executes one command of c.
func (cs *commands) run(c *Conn, cmd wire.Command) {
	switch cmd.Kind {
	case wire.CmdChat:
		cs.chat(c, cmd)
	case wire.CmdRequest:
		cmd.Req.At = cmd.At
		cs.requests.serve(c, cmd.Req)
	}
}

// chat handles a message of a plain client, which gets no answer.
func (cs *commands) chat(c *Conn, cmd wire.Command) {
	by := c.sender()
	var pub broker.Publication // a literal would be on the stack twice
	m := &pub.Message
	m.Type, m.Sender, m.Guest, m.Time = wire.TypeChat, by.User, by.Guest, cmd.At
	m.Conn = c.id
	m.Content = wire.ChatContent(by.User, cmd.Text, cmd.At)
	switch cmd.Target {
	case wire.TargetAll:
		pub.Target.All = true
	case wire.TargetRoom:
		pub.Target.Rooms = []string{c.currentRoom()}
	default:
		if names.CheckUser(cmd.Target) == nil { // else there can be no such user
			pub.Target.Users = []string{cmd.Target}
		}
	}
	err := c.guard(func() error {
		if !cs.allowed(c, &Action{Kind: ActionSend, Type: m.Type, Target: Target(pub.Target)}) {
			return nil
		}
		if cs.m.opts.OnMessage == nil {
			_, err := cs.send(c, &pub)
			return err
		}
		if noReceivers(&pub.Target) { // no such user: for OnMessage it would be to the server
			return nil
		}
		return cs.passOn(c, &pub, cmd.Text, nil)
	})
	if err != nil {
		cs.failed(c, err)
	}
}

// passOn passes a client's message to OnMessage. sent may be nil, see Inbound. It is not inlined,
// because the stack of a goroutine that reads is small, and what is large on it would be there for
// all messages.
//
//go:noinline
func (cs *commands) passOn(
	c *Conn, pub *broker.Publication, text []byte, sent *Result,
) error {
	_, err := cs.m.opts.OnMessage(c.session.Context(), c, Inbound{
		Text: string(text), Target: Target(pub.Target), Message: Message(pub.Message), sent: sent,
	})
	return err
}

// send sends a client's message to its target, as [Relay] does.
func (cs *commands) send(c *Conn, pub *broker.Publication) (Result, error) {
	res, err := cs.m.relay(c.session.Context(), pub)
	c.session.Bill().Receivers(res.Matched)
	return res, err
}

// failed counts and logs an error that is neither a refusal nor a mistake of the client.
func (cs *commands) failed(c *Conn, err error) {
	cs.m.counters.Add(metrics.Failed, 1)
	cs.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: message failed",
		slog.String("conn", c.id), slog.Any("error", err))
}

// allowed asks the authorizer, and counts and logs a refusal.
func (cs *commands) allowed(c *Conn, a *Action) bool {
	if cs.m.opts.Authorize == nil {
		cs.m.counters.Add(metrics.Denied, 1)
		cs.m.log.Once(slog.LevelWarn, "authorize", "", "realtime: a client's action was refused "+
			"because nothing allows it: set Options.Authorize")
		return false
	}
	if err := cs.m.opts.Authorize(c.session.Context(), c, *a); err != nil {
		cs.m.counters.Add(metrics.Denied, 1)
		cs.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: action refused",
			slog.String("conn", c.id), slog.String("action", string(a.Kind)),
			slog.Any("error", err))
		return false
	}
	return true
}

// requests executes the requests of clients of realtime.v1.
type requests struct {
	m        *Manager
	commands *commands
	sentIDs  *dedup.Cache
}

func newRequests(cs *commands) *requests {
	return &requests{
		m: cs.m, commands: cs, sentIDs: dedup.New(&cs.m.counters.Queues.Budget, cs.m.wheel),
	}
}

func (rs *requests) mayJoin(c *Conn, room string) bool {
	return rs.commands.allowed(c, &Action{Kind: ActionJoin, Room: room, Conn: c.id})
}

// serve executes a request, and answers it if the client wants an answer.
func (rs *requests) serve(c *Conn, r *wire.Request) {
	var content json.RawMessage
	var reply *Error
	err := c.guard(func() (err error) {
		content, err = rs.do(c, r)
		reply = errorReply(err) // guarded, because it calls methods of the application's errors
		return err
	})
	if err == nil && (r.ID == nil || r.Answered) {
		return
	}
	if err != nil && reply == nil { // a panic
		reply = &Error{Code: wire.CodeInternal, Message: internalError}
	}
	if reply != nil && reply.Code == wire.CodeInternal {
		rs.commands.failed(c, err)
	}
	if reply != nil {
		reply = withSendableData(reply, rs.m.opts.maxContent())
	}
	if (r.Ephemeral || r.Latest != "" || r.Name == wire.RequestState) && r.ID == nil {
		rs.refuse(c, r, reply)
		return
	}
	c.answer(wire.Reply(r.ID, content, (*wire.Error)(reply)))
}

// refuse tells a client why its ephemeral message, latest value or state was refused, at most once
// in a second: it may send many, and asks for no answer.
func (rs *requests) refuse(c *Conn, r *wire.Request, why *Error) {
	if !c.session.MayRefuse() {
		return
	}
	typ, room := "", r.Room
	if r.Name != wire.RequestState {
		typ = ratelog.Clip(cmp.Or(r.Typ, wire.TypeChat))
	}
	if ValidName(room) != nil {
		room = ""
	}
	c.answer(wire.Refusal(typ, room, (*wire.Error)(why)))
}

func (rs *requests) do(c *Conn, r *wire.Request) (content json.RawMessage, err error) {
	if r.Wrong != nil {
		return nil, &Error{Code: wire.CodeBadRequest, Message: r.Wrong.Error()}
	}
	switch r.Name {
	case wire.RequestSend:
		return rs.sendRequest(c, r)
	case wire.RequestJoin:
		return nil, rs.joinRequest(c, r)
	case wire.RequestRecover:
		return nil, rs.recoverRequest(c, r)
	case wire.RequestLeave:
		return nil, rs.leaveRequest(c, r)
	case wire.RequestAck:
		at := broker.Position{Epoch: r.Epoch, Offset: r.Offset}
		return nil, rs.m.inboxes.ack(c.session.Context(), c, at)
	case wire.RequestHistory:
		return nil, rs.historyRequest(c, r)
	case wire.RequestPresence:
		return nil, rs.presenceRequest(c, r)
	case wire.RequestState:
		return nil, rs.stateRequest(c, r)
	case wire.FrameCall:
		return rs.callRequest(c, r)
	case wire.RequestResume:
		return rs.resumeRequest(c, r.Session)
	case wire.RequestRefresh:
		return nil, rs.refreshRequest(c, r.Token)
	case wire.FramePing:
		return nil, nil
	}
	message := fmt.Sprintf("unknown type %q", ratelog.Clip(r.Name))
	return nil, &Error{Code: wire.CodeUnknown, Message: message}
}

// sendRequest sends a client's message. A message with an id is sent once.
func (rs *requests) sendRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
	by := c.sender()
	var pub broker.Publication // a literal would be on the stack twice
	m := &pub.Message
	m.Type, m.Sender, m.Guest, m.ID = cmp.Or(r.Typ, wire.TypeChat), by.User, by.Guest, r.MessageID
	m.Conn = c.id
	m.Content, m.Binary, m.Time, m.TTL = r.Content, r.Binary, r.At, r.TTL
	m.Ephemeral, m.Latest = r.Ephemeral, r.Latest
	if err := targetOf(r, &pub.Target); err != nil {
		return nil, err
	}
	if err := checkMember("message_type", validClientType(r.Typ)); err != nil {
		return nil, err
	}
	if err := checkMember("message_id", validID(r.MessageID)); err != nil {
		return nil, err
	}
	if err := checkMember("latest", validLatest(r.Latest)); err != nil {
		return nil, err
	}
	if err := checkTransient(r); err != nil {
		return nil, err
	}
	if !rs.commands.allowed(c, &Action{
		Kind: ActionSend, Type: m.Type, Target: Target(pub.Target), Latest: m.Latest,
	}) {
		return nil, ErrForbidden
	}
	if r.MessageID == "" {
		return rs.sendOrHandle(c, r, &pub)
	}
	return rs.sentIDs.Do(c.session.Context(), dedup.Key{Sender: by, ID: r.MessageID},
		func() (json.RawMessage, error) { return rs.sendOrHandle(c, r, &pub) })
}

// checkTransient refuses an ephemeral message and a latest value that contradict themselves.
func checkTransient(r *wire.Request) error {
	message, lasts := "", r.MessageID != "" || r.TTL != 0 || r.Receipt
	switch {
	case r.Ephemeral && (lasts || r.ID != nil || r.Latest != ""):
		message = "an ephemeral message has no id, message_id, latest, ttl_ms or receipt"
	case r.Latest != "" && lasts:
		message = "a message with latest has no message_id, ttl_ms or receipt"
	case r.Latest != "" && r.Room == "" && r.Conn == "":
		message = "a message with latest is for one of room and conn"
	default:
		return nil
	}
	return &Error{Code: wire.CodeBadRequest, Message: message}
}

// sendOrHandle sends a message to its target, or passes it to OnMessage. Without OnMessage there is
// nothing that handles a message to the server.
func (rs *requests) sendOrHandle(
	c *Conn, r *wire.Request, pub *broker.Publication,
) (json.RawMessage, error) {
	if rs.m.opts.OnMessage != nil {
		// The application may keep the message, but the bytes belong to the reader.
		pub.Message.Content = bytes.Clone(r.Content)
		pub.Message.Binary = bytes.Clone(r.Binary)
		var sent *Result
		if r.Receipt {
			sent = new(Result)
		}
		if err := rs.commands.passOn(c, pub, nil, sent); err != nil {
			return nil, &applicationError{err}
		}
		return receipt(r, sent), nil
	}
	if r.Server {
		return nil, noEvent(pub.Message.Type)
	}
	res, err := rs.commands.send(c, pub)
	if err != nil {
		return nil, err
	}
	return receipt(r, &res), nil
}

// receipt returns the receipt of a message if the client has asked for one. It is empty for the
// zero Result: then a handler has not relayed the message.
func receipt(r *wire.Request, res *Result) json.RawMessage {
	switch {
	case !r.Receipt || *res == Result{}:
		return nil
	case r.User != "":
		return wire.UserReceipt(res.Kept > 0 || res.Duplicate, res.Queued, res.Duplicate)
	default:
		return wire.Receipt(broker.Position(res.Position), res.Duplicate)
	}
}

// targetOf sets the target of a message. The server is the zero target.
func targetOf(r *wire.Request, to *broker.Target) (err error) {
	named := 0
	name := func(member, name string, valid func(string) error, list *[]string) {
		if name != "" && err == nil {
			err = checkMember(member, valid(name))
			*list = []string{name}
			named++
		}
	}
	name("room", r.Room, ValidName, &to.Rooms)
	name("user", r.User, names.CheckUser, &to.Users)
	name("conn", r.Conn, ValidName, &to.Conns)
	if to.All = r.All; to.All {
		named++
	}
	if r.Server {
		named++
	}
	if err == nil && named != 1 {
		const message = "want one of room, user, conn, all: true, or server: true"
		err = &Error{Code: wire.CodeBadRequest, Message: message}
	}
	return err
}

// callRequest passes a call to the application. It answers by itself if the answer is bytes.
func (rs *requests) callRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
	if err := checkMember("method", names.CheckMethod(r.Method)); err != nil {
		return nil, err
	}
	if !rs.commands.allowed(c, &Action{Kind: ActionCall, Method: r.Method}) {
		return nil, ErrForbidden
	}
	if rs.m.opts.OnMessage == nil {
		return nil, noMethod(r.Method)
	}
	content, err := rs.handleCall(c, r)
	if err != nil {
		return nil, &applicationError{err}
	}
	if content.Binary == nil {
		return content.JSON, nil
	}
	if r.Answered = true; r.ID != nil {
		c.answer(wire.BinaryReply(r.ID, content.Binary))
	}
	return nil, nil
}

// handleCall passes a call to OnMessage, and returns the content of the answer.
func (rs *requests) handleCall(c *Conn, r *wire.Request) (content wire.Content, err error) {
	res, err := rs.m.opts.OnMessage(c.session.Context(), c, Inbound{
		Method: r.Method, Message: Message{
			Sender: c.UserID(), Conn: c.id,
			Content: bytes.Clone(r.Content), Binary: bytes.Clone(r.Binary),
		},
	})
	if err != nil {
		return content, err
	}
	if content, err = wire.ContentOf(res); err != nil {
		// Without its causes: they are not meant for the client.
		return content, fmt.Errorf("realtime: result of %s: %v", r.Method, err)
	}
	return content, rs.m.checkContent(content)
}

// refreshRequest renews the identity. The rooms that the client asked for, and those that it
// watches, are authorised again: the new identity may be allowed less than the old one.
func (rs *requests) refreshRequest(c *Conn, token string) error {
	if token == "" {
		return &Error{Code: wire.CodeBadRequest, Message: "no token"}
	}
	if err := rs.m.registry.renew(c, token); err != nil {
		return err
	}
	rooms := c.askedFor()
	c.session.Bill().Decisions(len(rooms))
	for _, room := range rooms {
		if !rs.mayJoin(c, room) || c.watches(room) &&
			!rs.commands.allowed(c, &Action{Kind: ActionMembers, Room: room}) {
			rs.m.joins.leave(c, room, nil)
		}
	}
	for _, room := range c.Rooms() { // those to which the application has added it
		if c.watches(room) && !slices.Contains(rooms, room) &&
			!rs.commands.allowed(c, &Action{Kind: ActionMembers, Room: room}) {
			c.stopWatching(room)
		}
	}
	return nil
}

// resumeRequest gives the connection the place of the one that its client lost. The rooms that the
// client asked for are authorised again.
func (rs *requests) resumeRequest(c *Conn, token string) (json.RawMessage, error) {
	mayJoin := func(room string) bool { return rs.mayJoin(c, room) }
	rooms, err := rs.m.detached.resume(c, token, mayJoin)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Rooms []string `json:"rooms"`
	}{rooms})
}

// errSession is returned if a session has ended or belongs to another user.
var errSession = &Error{Code: wire.CodeSession, Message: "no such session, or too late"}

const (
	internalError          = "internal error"
	temporarilyUnavailable = "temporarily unavailable"
)

// unavailableRetry is after which time a client repeats a request that has failed because the
// broker is unavailable.
const unavailableRetry = time.Second

// errorReplies are the errors that clients may learn of, with the code and the text for them. An
// error that matches several entries has the first.
var errorReplies = []struct {
	err           error
	code, message string
}{
	{ErrForbidden, wire.CodeForbidden, "forbidden"},
	{ErrUnauthenticated, wire.CodeForbidden, "not authenticated"},
	{ErrDenied, wire.CodeDenied, "denied"},
	{ErrTooManyRooms, wire.CodeLimit, "too many rooms"},
	{ErrTooLarge, wire.CodeTooLarge, "message too large"},
	{errShare, wire.CodeLimit, "no more may be kept: the inbox has the sender's share"},
	{ErrFull, wire.CodeLimit, "no more may be kept"},
	{dedup.ErrFull, wire.CodeLimit, "too many messages with an id within two minutes"},
	{ErrUnavailable, wire.CodeUnavailable, temporarilyUnavailable},
	{ErrNoHistory, wire.CodeNoHistory, "room keeps no history"},
	{ErrInvalidPosition, wire.CodePosition, "no such position"},
	{errNoMember, wire.CodeNoMember, "not in the room"},
	{errNotShown, wire.CodeForbidden, "the room does not show its members"},
}

// applicationError marks an error of a handler of the application.
type applicationError struct{ error }

func (e *applicationError) Unwrap() error { return e.error }

// errorReply returns what a client learns of an error of the library or of the application. It
// returns nil for nil.
func errorReply(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil && names.ValidCode(e.Code) {
		return e
	}
	for i := range errorReplies {
		if known := &errorReplies[i]; errors.Is(err, known.err) {
			return &Error{Code: known.code, Message: known.message, RetryAfter: waitOf(err)}
		}
	}
	_, application := errors.AsType[*applicationError](err)
	if errors.Is(err, ErrInvalidName) && !application { // the broker refuses the name
		return &Error{Code: wire.CodeBadRequest, Message: "invalid name"}
	}
	return &Error{Code: wire.CodeInternal, Message: internalError}
}

// waitOf returns after which time a request that failed with err may succeed. Zero: not known.
func waitOf(err error) time.Duration {
	if denied, ok := errors.AsType[*admission.DeniedError](err); ok {
		return denied.Left
	}
	if full, ok := errors.AsType[*dedup.FullError](err); ok {
		return full.Wait
	}
	if errors.Is(err, ErrUnavailable) {
		return unavailableRetry
	}
	return 0
}

// withSendableData returns e, without its data if that is not JSON of at most maxBytes.
func withSendableData(e *Error, maxBytes int) *Error {
	if len(e.Data) <= maxBytes && (len(e.Data) == 0 || checkJSON(e.Data) == nil) {
		return e
	}
	clean := *e
	clean.Data = nil
	return &clean
}

// checkMember returns the reply to a request one member of which has an invalid name: err says why.
// It returns nil for nil.
func checkMember(member string, err error) error {
	if err == nil {
		return nil
	}
	message := member + ": invalid name"
	if invalid, ok := errors.AsType[*names.Error](err); ok {
		message += ": " + invalid.Reason
	}
	return &Error{Code: wire.CodeBadRequest, Message: message}
}
