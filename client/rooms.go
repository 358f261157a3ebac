package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/realtime-go/realtime"
)

// Join makes the client a member of a room, now and after every reconnect: it gets everything that
// is sent to the room after Join has returned, and after a reconnect what it has missed, if the
// room keeps history. Joining twice is no error. It waits for the server's answer, over reconnects,
// until ctx or the client ends. If ctx ends it returns its cause: whether the client is a member is
// not known then, and Leave makes sure that it is not.
//
// It returns a *realtime.Error if the server refuses, realtime.ErrName for what is not a name,
// [ErrFull] if too much waits already, and what matches realtime.ErrClosed after the end.
func (c *Client) Join(ctx context.Context, room string) error {
	return c.JoinFrom(ctx, room, realtime.From{})
}

// JoinFrom is Join of a room that keeps history, of which [Client.Messages] yields first what from
// asks for. What is missing behind from.Since is a *[GapError], and DialOptions.OnRecover is told
// when nothing is. In a room that the client is in already, which gives it everything anyway, it is
// Join.
func (c *Client) JoinFrom(ctx context.Context, room string, from realtime.From) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	rooms := c.session.members
	answered := rooms.asks(room, from)
	defer answered()
	o := outgoing{Type: "join", Room: room, History: number(from.Last), Since: since(from.Since)}
	_, err := c.ask(ctx, o, true, func(res result) {
		if res.err == nil {
			rooms.joined(room, from, res.content)
		}
	})
	return err
}

// Leave undoes Join, and waits like it. Leaving a room that the client is not in is no error.
func (c *Client) Leave(ctx context.Context, room string) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	rooms := c.session.members
	answered := rooms.leaves(room)
	defer answered()
	_, err := c.ask(ctx, outgoing{Type: "leave", Room: room}, true, func(res result) {
		if res.err == nil {
			rooms.left(room)
		}
	})
	return err
}

// Presence is who is in a room.
type Presence struct {
	Users           []string `json:"users"`      // nil if there are more than 1,000
	UserCount       int      `json:"user_count"` // anonymous connections do not count
	ConnectionCount int      `json:"connection_count"`
}

// Presence asks who is in a room. Notices of the room that come after the answer are news to it. It
// waits like [Client.Join], and returns the same errors.
func (c *Client) Presence(ctx context.Context, room string) (Presence, error) {
	if err := realtime.ValidName(room); err != nil {
		return Presence{}, err
	}
	content, err := c.ask(ctx, outgoing{Type: "presence", Room: room}, true, nil)
	if err != nil {
		return Presence{}, err
	}
	var p Presence
	if err := json.Unmarshal(content, &p); err != nil {
		return Presence{}, fmt.Errorf("realtime: answer to presence: %w", err)
	}
	return p, nil
}
