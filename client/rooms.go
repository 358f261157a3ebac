package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// Join makes the client a member of a room, now and after every reconnect. The client receives
// everything that is sent to the room after Join has returned. If the room keeps history, it also
// receives after a reconnect what it has missed. Joining a room twice is not an error.
//
// Join waits for the server's answer, over reconnects, until ctx or the client ends. If ctx ends,
// it returns the cause of ctx. The client may or may not be a member then; Leave makes sure that it
// is not.
//
// It returns a *realtime.Error if the server refuses, with a code of docs/PROTOCOL.md,
// realtime.ErrInvalidName if room is not a name, [ErrFull] if too many requests are pending, and an
// error that matches realtime.ErrClosed after the client has ended.
func (c *Client) Join(ctx context.Context, room string) error {
	return c.JoinFrom(ctx, room, realtime.From{})
}

// JoinFrom is Join for a room that keeps history. [Client.Messages] first yields the earlier
// messages that from selects. If messages after from.Since are missing, the stream has a
// *[GapError]; if none are, DialOptions.OnRecover is called. If the client is already in the room,
// JoinFrom is the same as Join, because the client receives everything anyway.
func (c *Client) JoinFrom(ctx context.Context, room string, from realtime.From) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	join := c.session.members.beginJoin(room, from)
	defer join.abandon()
	o := outgoing{
		Type: wire.RequestJoin, Room: room, History: clampCount(from.Last), Since: since(from.Since),
	}
	_, err := c.request(ctx, o, true, join.answered)
	return err
}

// Leave ends the membership in a room, and waits like [Client.Join]. Leaving a room that the client
// is not in is not an error.
func (c *Client) Leave(ctx context.Context, room string) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	leave := c.session.members.beginLeave(room)
	defer leave.abandon()
	_, err := c.request(ctx, outgoing{Type: wire.RequestLeave, Room: room}, true, leave.answered)
	return err
}

// Presence lists the members of a room.
type Presence struct {
	Users           []string `json:"users"`      // nil if there are more than 1,000
	UserCount       int      `json:"user_count"` // without anonymous connections
	ConnectionCount int      `json:"connection_count"`
}

// Presence returns the members of a room. Notices of the room that arrive after the answer describe
// later changes. It waits like [Client.Join] and returns the same errors.
func (c *Client) Presence(ctx context.Context, room string) (Presence, error) {
	if err := realtime.ValidName(room); err != nil {
		return Presence{}, err
	}
	content, err := c.request(ctx, outgoing{Type: wire.RequestPresence, Room: room}, true, nil)
	if err != nil {
		return Presence{}, err
	}
	var p Presence
	if err := json.Unmarshal(content, &p); err != nil {
		return Presence{}, fmt.Errorf("realtime: answer to presence: %w", err)
	}
	return p, nil
}
