package realtimetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	protocol "github.com/realtime-go/realtime/internal/wire"
)

// waitTimeout is the time for which a test waits for an expected event. In a synctest bubble it passes
// at once.
const waitTimeout = 10 * time.Second

// Client is a client under the control of a test. A failing method fails the test. Use the embedded
// client for requests that may fail, but not for receiving. Received messages wait until they are
// expected. The methods of Client itself must be called by the goroutine of the test.
type Client struct {
	*client.Client

	t        testing.TB
	uplink   *uplink
	inbox    []client.Message
	gaps     []*client.GapError
	rooms    []*client.RoomError
	refusals []*client.RoomError // of everything but a membership
	end      error
	presence chan struct{} // has an element when the presence of a room has changed
}

func (c *Client) close() {
	c.uplink.restore()
	_ = c.Client.Close()
}

// ctx returns a context for an operation that must not take long.
func (c *Client) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.t.Context(), waitTimeout)
}

// Join joins rooms.
func (c *Client) Join(rooms ...string) {
	c.t.Helper()
	ctx, cancel := c.ctx()
	defer cancel()
	for _, room := range rooms {
		if err := c.Client.Join(ctx, room); err != nil {
			c.t.Fatalf("realtimetest: join %q: %v", room, err)
		}
	}
}

// Send sends a message. A content of type []byte is sent as bytes, and any other content as
// encoding/json encodes it. The zero Target is the server itself. When Send returns, the server has
// queued the message for all receivers, or its handler has returned.
func (c *Client) Send(to realtime.Target, typ string, content any) {
	c.t.Helper()
	p, err := protocol.ContentOf(content)
	if err == nil {
		ctx, cancel := c.ctx()
		defer cancel()
		msg := realtime.Message{Type: typ, Content: p.JSON, Binary: p.Binary}
		err = c.Client.Send(ctx, to, msg)
	}
	if err != nil {
		c.t.Fatalf("realtimetest: send %q: %v", typ, err)
	}
}

// Expect returns the first message of a type that has not been expected yet. It waits if there is
// none. Messages of other types are kept for later calls.
func (c *Client) Expect(typ string) client.Message {
	c.t.Helper()
	i := -1
	c.await(fmt.Sprintf("no message of type %q", typ), func() bool {
		i = c.find(typ)
		return i >= 0
	})
	found := c.inbox[i]
	c.inbox = slices.Delete(c.inbox, i, i+1)
	return found
}

func (c *Client) find(typ string) int {
	return slices.IndexFunc(c.inbox, func(m client.Message) bool { return m.Type == typ })
}

// Expect is [Client.Expect] for a message whose content is decoded into a T. A T of type []byte is
// for bytes.
func Expect[T any](c *Client, typ string) T {
	c.t.Helper()
	m := c.Expect(typ)
	content, err := protocol.Decode[T](protocol.Content{JSON: m.Content, Binary: m.Binary})
	if err != nil {
		c.t.Fatalf("realtimetest: content of %q: %v", typ, err)
	}
	return content
}

// ExpectNone fails the test if a message of the type has arrived that was not expected. It waits
// only for messages that the server accepted before the call.
func (c *Client) ExpectNone(typ string) {
	c.t.Helper()
	c.receivePending()
	if i := c.find(typ); i >= 0 {
		c.t.Fatalf("realtimetest: unexpected message: %s", describe(c.inbox[i]))
	}
}

// ExpectGap waits until the client reports that messages may be missing.
func (c *Client) ExpectGap() *client.GapError {
	c.t.Helper()
	c.await("no gap", func() bool { return len(c.gaps) > 0 })
	gap := c.gaps[0]
	c.gaps = c.gaps[1:]
	return gap
}

// ExpectRoomLost waits until the client reports that it is no longer in a room.
func (c *Client) ExpectRoomLost() *client.RoomError {
	c.t.Helper()
	c.await("no room was lost", func() bool { return len(c.rooms) > 0 })
	room := c.rooms[0]
	c.rooms = c.rooms[1:]
	return room
}

// ExpectPresence waits until done reports true for what a room shows of its members, and returns
// that. The client must have joined the room with client.JoinOptions.Presence.
func (c *Client) ExpectPresence(room string, done func(client.Presence) bool) client.Presence {
	c.t.Helper()
	ctx, cancel := c.ctx()
	defer cancel()
	for {
		now, ok := c.Presence(room)
		if ok && done(now) {
			return now
		}
		select {
		case <-c.presence:
		case <-ctx.Done():
			c.t.Fatalf("realtimetest: the presence of %q is not as expected: %+v", room, now)
		}
	}
}

// ExpectStateRefused waits until the client reports that the server has refused its state, or
// anything else for which the Member of a client.RoomError is true.
func (c *Client) ExpectStateRefused() *client.RoomError {
	c.t.Helper()
	c.await("no state was refused", func() bool { return len(c.refusals) > 0 })
	refusal := c.refusals[0]
	c.refusals = c.refusals[1:]
	return refusal
}

// ExpectEnd waits until the client has ended for good, and returns the reason.
func (c *Client) ExpectEnd() error {
	c.t.Helper()
	c.await("the client has not ended", func() bool { return c.end != nil })
	return c.end
}

// Stall stops the client from reading until Resume, like a suspended machine. Data from the server
// waits in the network, and then in the server.
func (c *Client) Stall() { c.uplink.stall(true) }

// Resume ends Stall.
func (c *Client) Resume() { c.uplink.stall(false) }

// DropNetwork discards everything that the client and the server send to each other, without an
// error on either side. Outside of a synctest bubble it takes both half a minute to detect this.
func (c *Client) DropNetwork() { c.uplink.drop() }

// Reconnect restores the network and waits until the client is connected again and has joined its
// rooms.
func (c *Client) Reconnect() {
	c.t.Helper()
	c.uplink.restore()
	c.receivePending()
}

// receivePending waits until the client has received everything that the server had for it.
func (c *Client) receivePending() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 4*waitTimeout) // it may have to reconnect
	defer cancel()
	_, err := c.Ping(ctx)
	now, cancel := context.WithCancel(ctx)
	cancel()
	for c.receive(now) {
	}
	if err != nil && c.end == nil {
		c.t.Fatalf("realtimetest: the server does not answer: %v", err)
	}
}

// receive receives the next message or error. It reports false when ctx or the client has ended.
func (c *Client) receive(ctx context.Context) bool {
	if c.end != nil {
		return false
	}
	msg, err := c.Receive(ctx)
	gap, isGap := errors.AsType[*client.GapError](err)
	room, isRoom := errors.AsType[*client.RoomError](err)
	switch {
	case err == nil:
		c.inbox = append(c.inbox, msg)
	case isGap:
		c.gaps = append(c.gaps, gap)
	case isRoom && room.Member:
		c.refusals = append(c.refusals, room)
	case isRoom:
		c.rooms = append(c.rooms, room)
	case errors.Is(err, realtime.ErrClosed):
		c.end = err
	default: // ctx has ended
		return false
	}
	return true
}

// await receives until done reports true.
func (c *Client) await(problem string, done func() bool) {
	c.t.Helper()
	ctx, cancel := c.ctx()
	defer cancel()
	for !done() {
		if !c.receive(ctx) && !done() {
			c.t.Fatalf("realtimetest: %s; received: %s", problem, c.contents())
		}
	}
}

// contents describes the messages that were received and not expected.
func (c *Client) contents() string {
	var all []string
	for _, m := range c.inbox {
		all = append(all, describe(m))
	}
	if c.end != nil {
		all = append(all, "the end: "+c.end.Error())
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
}

func describe(m client.Message) string {
	if m.Binary != nil {
		return fmt.Sprintf("%s with %d bytes", m.Type, len(m.Binary))
	}
	return m.Type + " " + string(m.Content)
}
