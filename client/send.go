package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/realtime-go/realtime"
)

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
// take, and what matches realtime.ErrClosed after the end.
func (c *Client) Send(ctx context.Context, to realtime.Target, msg realtime.Message) error {
	o, err := newSend(to, msg)
	if err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.slots }()
	_, err = c.ask(ctx, o, true, nil)
	return err
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
	for _, name := range []string{msg.ID, cmp.Or(msg.Type, "chat")} {
		if err := validWord(name); err != nil {
			return outgoing{}, err
		}
	}
	return outgoing{
		Type: "send", Room: only(to.Rooms), User: only(to.Users), Conn: only(to.Conns), All: to.All,
		MessageType: msg.Type, MessageID: msg.ID, Content: msg.Content, binary: msg.Binary,
	}, nil
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
