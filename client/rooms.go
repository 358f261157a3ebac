package client

import (
	"context"

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
	return c.JoinWith(ctx, room, JoinOptions{})
}

// JoinOptions says what a join asks for in addition to the membership. The zero value asks for
// nothing.
type JoinOptions struct {
	// From selects earlier messages of a room that keeps history, which [Client.Messages] yields
	// first. If messages after From.Since are missing, the stream has a *[GapError]; if none are,
	// DialOptions.OnRecover is called. It is ignored if the client is already in the room, because
	// the client receives everything anyway.
	From realtime.From
	// Presence asks what the room shows of its members, now and after every reconnect, until the
	// client leaves: see [Client.Presence] and DialOptions.OnPresence. The server refuses the join
	// if the client may not know.
	//
	// A client may be in a room because the application of the server has added it, without the
	// permission to join. Then JoinWith returns the error of the refused join, but the client stays
	// in the room and asks for presence nevertheless. If the server refuses that too,
	// [Client.Messages] yields a *[RoomError] whose Member is true.
	Presence bool
	// State is what the client says about itself, as in [Client.SetState]. The server refuses the
	// join if it refuses the state. Nil: a state that the client already has in the room stays, and
	// a new member has none.
	State any
}

// JoinWith is Join with options. It also returns the errors of [Client.SetState] that concern the
// state.
func (c *Client) JoinWith(ctx context.Context, room string, opts JoinOptions) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	o := outgoing{
		Type: wire.RequestJoin, Room: room,
		History: clampCount(opts.From.Last), Since: since(opts.From.Since),
	}
	if opts.Presence {
		o.Presence = true
	}
	if opts.State != nil {
		var err error
		if o.State, err = encodeState(opts.State); err != nil {
			return err
		}
	}
	join := c.session.members.beginJoin(room, opts, o.State)
	defer join.abandon()
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
