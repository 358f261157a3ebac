package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"github.com/realtime-go/realtime/internal/dedup"
	"strconv"
)

// sendRequest sends a client's message, once if it has an id.
func (d *requester) sendRequest(c *Conn, r *request) (json.RawMessage, error) {
	to, err := r.target()
	if err != nil {
		return nil, err
	}
	if err := validClientType(r.typ); err != nil {
		return nil, about("message_type", err)
	}
	if err := validID(r.messageID); err != nil {
		return nil, about("message_id", err)
	}
	if err := validMessageKey(r.key); err != nil {
		return nil, about("key", err)
	}
	if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
		return nil, ErrForbidden
	}
	if r.messageID == "" {
		return d.pass(c, r, to)
	}
	key := dedup.Key{Sender: c.sender(), ID: r.messageID}
	return d.receipts.Do(c.ctx, key, func() (json.RawMessage, error) { return d.pass(c, r, to) })
}

// pass gives a message to the application, or sends it.
func (d *requester) pass(c *Conn, r *request, to Target) (json.RawMessage, error) {
	by := c.sender()
	msg := Message{
		Type: cmp.Or(r.typ, typeChat), Sender: by.User, Guest: by.Guest, ID: r.messageID,
		Content: r.content, Binary: r.binary, Key: r.key, TTL: r.ttl,
	}
	if d.onMessage != nil { // the application may keep it
		msg.Content, msg.Binary = bytes.Clone(msg.Content), bytes.Clone(msg.Binary)
		if err := d.onMessage(c.ctx, c, Inbound{Target: to, Message: msg}); err != nil {
			return nil, &applicationError{err}
		}
		return nil, nil
	}
	res, err := d.send(c, to, msg)
	if err != nil || !r.receipt {
		return nil, err
	}
	return receiptFor(&res, r.user != ""), nil
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
	return appendDuplicate(appendString(append(buf, `,"epoch":`...), res.Position.Epoch), res)
}

func appendDuplicate(buf []byte, res *Result) []byte {
	if res.Duplicate {
		buf = append(buf, `,"duplicate":true`...)
	}
	return append(buf, '}')
}
