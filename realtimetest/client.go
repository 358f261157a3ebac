package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// patience is how long a test waits for what must come. In a synctest bubble it takes no time.
const patience = 10 * time.Second

// Client is a client under the control of a test. What it is asked for that fails, fails the
// test; use the embedded client for what may fail, but not for receiving. What comes in waits
// to be expected. Its own methods are for the goroutine of the test.
type Client struct {
	*client.Client

	t     testing.TB
	up    *uplink
	inbox []client.Message
	gaps  []*client.GapError
	rooms []*client.RoomError
	end   error
}

func (c *Client) close() {
	c.up.restore()
	_ = c.Client.Close()
}

// ctx is for what must not take long.
func (c *Client) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.t.Context(), patience)
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

// Send sends what encoding/json makes of content. When it returns, the server has given the
// message to whom it is for.
func (c *Client) Send(to realtime.Target, typ string, content any) {
	c.t.Helper()
	p, err := json.Marshal(content)
	if err == nil {
		ctx, cancel := c.ctx()
		defer cancel()
		err = c.Client.Send(ctx, to, realtime.Message{Type: typ, Content: p})
	}
	if err != nil {
		c.t.Fatalf("realtimetest: send %q: %v", typ, err)
	}
}

// Expect returns the first message of a type that has not been expected yet, and waits for it
// if it has not come. Messages of other types stay where they are.
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

// Expect is [Client.Expect] of a message whose content is decoded into a T.
func Expect[T any](c *Client, typ string) T {
	c.t.Helper()
	var content T
	if err := json.Unmarshal(c.Expect(typ).Content, &content); err != nil {
		c.t.Fatalf("realtimetest: content of %q: %v", typ, err)
	}
	return content
}

// ExpectNone fails the test if a message of the type has come that was not expected. What the
// server has accepted before the call has come by then, so it waits for nothing else.
func (c *Client) ExpectNone(typ string) {
	c.t.Helper()
	c.settle()
	if i := c.find(typ); i >= 0 {
		c.t.Fatalf("realtimetest: unexpected message: %s", describe(c.inbox[i]))
	}
}

// ExpectGap waits until the client has been told that messages may be missing.
func (c *Client) ExpectGap() *client.GapError {
	c.t.Helper()
	c.await("no gap", func() bool { return len(c.gaps) > 0 })
	gap := c.gaps[0]
	c.gaps = c.gaps[1:]
	return gap
}

// ExpectRoomLost waits until the client has been told that it is not in a room any more.
func (c *Client) ExpectRoomLost() *client.RoomError {
	c.t.Helper()
	c.await("no room was lost", func() bool { return len(c.rooms) > 0 })
	room := c.rooms[0]
	c.rooms = c.rooms[1:]
	return room
}

// ExpectEnd waits until the client has ended for good, and returns why.
func (c *Client) ExpectEnd() error {
	c.t.Helper()
	c.await("the client has not ended", func() bool { return c.end != nil })
	return c.end
}

// Stall makes the client read nothing any more, until Resume, as a machine that is
// suspended: what the server sends waits on the way, and then in the server.
func (c *Client) Stall() { c.up.stall(true) }

// Resume ends Stall.
func (c *Client) Resume() { c.up.stall(false) }

// DropNetwork lets everything that the client and the server say to each other vanish, and
// neither is told. Outside of a synctest bubble it takes both half a minute to find out.
func (c *Client) DropNetwork() { c.up.drop() }

// Reconnect brings the network back, and waits until the client is connected anew, with its
// rooms.
func (c *Client) Reconnect() {
	c.t.Helper()
	c.up.restore()
	c.settle()
}

// settle waits until everything that the server had for the client has come.
func (c *Client) settle() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 4*patience) // there may be attempts to connect
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

// receive takes in what comes next, until ctx ends.
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
	case isRoom:
		c.rooms = append(c.rooms, room)
	case errors.Is(err, realtime.ErrClosed):
		c.end = err
	default: // ctx has ended
		return false
	}
	return true
}

// await receives until done.
func (c *Client) await(problem string, done func() bool) {
	c.t.Helper()
	ctx, cancel := c.ctx()
	defer cancel()
	for !done() {
		if !c.receive(ctx) && !done() {
			c.t.Fatalf("realtimetest: %s; there is: %s", problem, c.contents())
		}
	}
}

// contents describes what has come and was not expected.
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
