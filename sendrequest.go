package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strconv"

	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/wire"
)

// sendRequest sends a client's message, once if it has an id.
func (d *requester) sendRequest(c *Conn, r *wire.Request) (json.RawMessage, error) {
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
func (d *requester) pass(c *Conn, r *wire.Request, to Target) (json.RawMessage, error) {
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
	return receiptFor(&res, r.User != ""), nil
}

// receiptFor says what became of a message.
func receiptFor(res *Result, user bool) []byte {
	if user {
		kept := res.Kept > 0 || res.Duplicate // the first one was
		buf := strconv.AppendBool([]byte(`{"kept":`), kept)
		buf = strconv.AppendInt(append(buf, `,"queued":`...), int64(res.Queued), 10)
		return appendDuplicate(buf, res)
	}
	if res.Position.Epoch == "" {
		return []byte("{}")
	}
	buf := strconv.AppendUint([]byte(`{"offset":`), res.Position.Offset, 10)
	return appendDuplicate(wire.AppendString(append(buf, `,"epoch":`...), res.Position.Epoch), res)
}

func appendDuplicate(buf []byte, res *Result) []byte {
	if res.Duplicate {
		buf = append(buf, `,"duplicate":true`...)
	}
	return append(buf, '}')
}
