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
	"github.com/realtime-go/realtime/internal/wire"
)

// Receipt describes what the server did with a message.
type Receipt struct {
	// Position is the position of the message in the room, if the room keeps it.
	realtime.Position
	// Kept reports whether the user's inbox keeps the message. Queued is the number of the user's
	// connections for which it was queued. Both are zero for targets other than a user.
	Kept   bool `json:"kept"`
	Queued int  `json:"queued"`
	// Duplicate reports that the message had already been sent, over a connection that ended before
	// the answer.
	Duplicate bool `json:"duplicate"`
}

// SendReceipt is [Client.Send] with a receipt, which contains what the server knows when it accepts
// the message. If a handler of the application handles the message, the receipt is zero unless the
// handler calls realtime.Relay. There is none for an ephemeral message or a latest value:
// SendReceipt returns realtime.ErrInvalidMessage.
func (c *Client) SendReceipt(
	ctx context.Context, to realtime.Target, msg realtime.Message,
) (Receipt, error) {
	if msg.Ephemeral || msg.Latest != "" {
		return Receipt{}, fmt.Errorf("%w: no receipt for an ephemeral message or a latest value",
			realtime.ErrInvalidMessage)
	}
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

// Send sends a message to one room, user or connection, or to all, and waits until the server has
// accepted it. A message to the zero Target is for the application of the server itself. If the
// connection ends first, Send sends the message again over the next one, with the same ID. It also
// does so, after a wait, if the server answers that its servers cannot reach each other. Every
// receiver then shows it once, but handlers of the server may see it twice. A message without ID
// gets a random one. The server determines Sender, Conn and Time. Send keeps no reference to
// Content and Binary.
//
// Send waits until ctx or the client ends. It also waits for its turn if DialOptions.PendingSends
// messages are already waiting. If ctx ends, it returns the cause of ctx, and the message may still
// arrive.
//
// An ephemeral message, see realtime.Message, is for now only: Send does not wait for the server
// and returns nil also if it drops the message, because there is no connection or more than 64 KiB
// wait to be written to it. The message has no ID.
//
// A latest value, see Latest of realtime.Message, is for one room or connection, and has no answer
// either. Send does not wait for the server, nor for a connection: of several values with the same
// key and target that wait to be written, only the newest is sent. The value is not sent again if
// the connection ends while it is on its way. When a later [Client.Ping] returns, the server has
// handled it, unless Close came first.
//
// If the server refuses an ephemeral message or a latest value for a room, [Client.Messages] yields
// a *[RoomError] whose Member is true. One of a room waits at most, and the server sends one in a
// second. Nobody is told if the server refuses one for anything else.
//
// It returns a *realtime.Error if the server refuses the message; [ErrTarget],
// realtime.ErrInvalidName or realtime.ErrInvalidMessage if the message cannot be sent;
// realtime.ErrTooLarge if it is larger than the server accepts; [ErrFull] if too many requests are
// pending; and an error that matches realtime.ErrClosed after the client has ended.
func (c *Client) Send(ctx context.Context, to realtime.Target, msg realtime.Message) error {
	if msg.Ephemeral || msg.Latest != "" {
		return c.sendUnanswered(ctx, to, msg)
	}
	_, err := c.send(ctx, to, msg, false)
	return err
}

// sendUnanswered sends an ephemeral message or a latest value.
func (c *Client) sendUnanswered(
	ctx context.Context, to realtime.Target, msg realtime.Message,
) error {
	o, err := newSend(to, msg)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := o.encode()
	if err != nil {
		return err
	}
	if msg.Latest != "" {
		return c.session.requests.replace(f, sentValue{o.Room, o.Conn, msg.Latest})
	}
	return c.session.requests.offer(f)
}

func (c *Client) send(
	ctx context.Context, to realtime.Target, msg realtime.Message, receipt bool,
) (json.RawMessage, error) {
	o, err := newSend(to, msg)
	if err != nil {
		return nil, err
	}
	o.Receipt = receipt
	content, err := c.requestLimited(ctx, o, true, nil, c.session.sends)
	return content.JSON, err
}

func newSend(to realtime.Target, msg realtime.Message) (outgoing, error) {
	names := slices.Concat(to.Rooms, to.Users, to.Conns)
	switch {
	case len(to.ExceptConns)+len(to.ExceptUsers) > 0,
		to.All && len(names) > 0, len(names) > 1:
		return outgoing{}, ErrTarget
	case msg.Binary != nil && len(msg.Content) > 0:
		return outgoing{}, fmt.Errorf("%w: both Content and Binary", realtime.ErrInvalidMessage)
	case msg.TTL < 0:
		return outgoing{}, fmt.Errorf("%w: negative TTL", realtime.ErrInvalidMessage)
	case msg.Ephemeral && (msg.ID != "" || msg.Latest != "" || msg.TTL > 0):
		return outgoing{}, fmt.Errorf(
			"%w: an ephemeral message with ID, Latest or TTL", realtime.ErrInvalidMessage)
	case msg.Latest != "" && (msg.ID != "" || msg.TTL > 0):
		return outgoing{}, fmt.Errorf(
			"%w: a message with Latest and ID or TTL", realtime.ErrInvalidMessage)
	case msg.Latest != "" && len(to.Rooms)+len(to.Conns) != 1:
		return outgoing{}, ErrTarget
	}
	if msg.ID == "" && !msg.Ephemeral && msg.Latest == "" {
		msg.ID = rand.Text()[:16] // 80 bits
	}
	for _, name := range names {
		if err := realtime.ValidName(name); err != nil {
			return outgoing{}, err
		}
	}
	for _, name := range []string{msg.ID, msg.Type, msg.Latest} {
		if err := validWord(cmp.Or(name, "none")); err != nil {
			return outgoing{}, err
		}
	}
	o := outgoing{
		Type: wire.RequestSend,
		Room: only(to.Rooms), User: only(to.Users), Conn: only(to.Conns), All: to.All,
		Server:      !to.All && len(names) == 0,
		MessageType: msg.Type, MessageID: msg.ID, TTL: milliseconds(msg.TTL),
		Ephemeral: msg.Ephemeral,
		Content:   msg.Content, binary: msg.Binary,
	}
	if msg.Latest != "" {
		o.Latest = msg.Latest
	}
	return o, nil
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
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

// maxWord limits message types, IDs, keys and methods, in bytes.
const maxWord = 64

func validWord(s string) error {
	if len(s) > maxWord {
		return fmt.Errorf("%w: longer than %d bytes", realtime.ErrInvalidName, maxWord)
	}
	return realtime.ValidName(s)
}
