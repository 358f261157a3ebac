package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/realtime-go/realtime"
)

// Receipt is what has become of a message.
type Receipt struct {
	// Position is its place in the room that keeps it.
	realtime.Position
	// Kept says that the inbox of the user keeps it, and Queued how many of his connections it is on
	// its way to. Both are zero for anybody else.
	Kept   bool `json:"kept"`
	Queued int  `json:"queued"`
	// Duplicate says that it was sent before, over the connection that ended before the answer.
	Duplicate bool `json:"duplicate"`
}

// SendReceipt is [Client.Send] that says what has become of the message: as far as the server knows
// when it has taken it. If the application decides itself what becomes of messages, all is zero.
func (c *Client) SendReceipt(
	ctx context.Context, to realtime.Target, msg realtime.Message,
) (Receipt, error) {
	content, err := c.send(ctx, to, msg, true)
	var r Receipt
	if err != nil || content == nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return Receipt{}, fmt.Errorf("realtime: receipt: %w", err)
	}
	return r, nil
}

// Send sends a message to one room, user or connection, or to all, and waits until the server
// has taken it. If the connection ends first, it is sent again on the next one, with the same
// id: every receiver shows it once, but the server's own code may see it twice. Without an ID it
// gets a random one. Sender and Time are the server's to say. Send keeps no reference to Content
// and Binary.
//
// It waits until ctx or the client ends, and for its turn if DialOptions.PendingSends messages wait
// already. If ctx ends it returns its cause, and the message may still arrive.
//
// It returns a *realtime.Error if the server refuses the message, [ErrTarget], realtime.ErrName or
// realtime.ErrMessage for what cannot be sent, realtime.ErrTooLarge for what the server would not
// take, [ErrFull] if too much waits already, and what matches realtime.ErrClosed after the end.
func (c *Client) Send(ctx context.Context, to realtime.Target, msg realtime.Message) error {
	_, err := c.send(ctx, to, msg, false)
	return err
}

func (c *Client) send(
	ctx context.Context, to realtime.Target, msg realtime.Message, receipt bool,
) (json.RawMessage, error) {
	o, err := newSend(to, msg)
	if err != nil {
		return nil, err
	}
	o.Receipt = receipt
	return c.askInTurn(ctx, o, true, nil, c.session.sends)
}

func newSend(to realtime.Target, msg realtime.Message) (outgoing, error) {
	names := slices.Concat(to.Rooms, to.Users, to.Conns)
	switch {
	case len(to.ExceptConns)+len(to.ExceptUsers) > 0,
		to.All && len(names) > 0, !to.All && len(names) != 1:
		return outgoing{}, ErrTarget
	case msg.Binary != nil && len(msg.Content) > 0:
		return outgoing{}, fmt.Errorf("%w: both Content and Binary", realtime.ErrMessage)
	}
	if msg.ID == "" {
		msg.ID = rand.Text()[:16] // 80 bits
	}
	for _, name := range names {
		if err := realtime.ValidName(name); err != nil {
			return outgoing{}, err
		}
	}
	for _, name := range []string{msg.ID, cmp.Or(msg.Type, "chat"), cmp.Or(msg.Key, "none")} {
		if err := validWord(name); err != nil {
			return outgoing{}, err
		}
	}
	return outgoing{
		Type: "send", Room: only(to.Rooms), User: only(to.Users), Conn: only(to.Conns), All: to.All,
		MessageType: msg.Type, MessageID: msg.ID, Key: msg.Key, TTL: milliseconds(msg.TTL),
		Content: msg.Content, binary: msg.Binary,
	}, nil
}

// milliseconds rounds up. What is negative is -1.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	ms := d.Milliseconds()
	if d > time.Duration(ms)*time.Millisecond {
		ms++
	}
	return ms
}

func only(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// maxWord bounds message types, ids and methods, in bytes.
const maxWord = 64

func validWord(s string) error {
	if len(s) > maxWord {
		return fmt.Errorf("%w: longer than %d bytes", realtime.ErrName, maxWord)
	}
	return realtime.ValidName(s)
}
