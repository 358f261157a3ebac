package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// patience is how long anything may take.
const patience = 2 * time.Minute

// client is a connection that has one request under way at a time.
type client struct {
	speak *dialect
	ws    *websocket.Conn
	next  int

	mu       sync.Mutex
	got      int // messages
	want     int // reached is told when got is
	reached  chan struct{}
	awaits   int // the id of the request
	answered chan reply
	ended    error
	reading  sync.WaitGroup
}

type reply struct {
	at  position
	err error
}

var errEnded = errors.New("the connection has ended")

// dial connects a user to a node.
func dial(ctx context.Context, addr string, speak *dialect, user string) (*client, error) {
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+speak.path+user, nil)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	c := &client{speak: speak, ws: ws, answered: make(chan reply, 1), next: 1}
	c.reading.Go(c.read)
	if speak.hello == "" {
		return c, nil
	}
	_, err = c.call(func(int) string { return speak.hello })
	return c, err
}

func (c *client) close() {
	_ = c.ws.CloseNow()
	c.reading.Wait()
}

// read counts messages, and passes on answers.
func (c *client) read() {
	for {
		_, frame, err := c.ws.Read(context.Background())
		if err != nil {
			c.mu.Lock()
			c.ended = errEnded
			c.answer(reply{err: errEnded})
			c.mu.Unlock()
			return
		}
		for line := range bytes.Lines(frame) {
			c.take(bytes.TrimSpace(line))
		}
	}
}

func (c *client) take(line []byte) {
	if c.speak.ping != "" && string(line) == c.speak.ping {
		_ = c.ws.Write(context.Background(), websocket.MessageText, line)
		return
	}
	n := bytes.Count(line, []byte(mark))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got += n; c.reached != nil && c.got >= c.want {
		close(c.reached)
		c.reached = nil
	}
	if c.awaits == 0 {
		return
	}
	id, at, err := c.speak.answer(line)
	if err != nil || id == c.awaits {
		c.answer(reply{at, err})
	}
}

// answer ends the request. c.mu is held.
func (c *client) answer(r reply) {
	if c.awaits != 0 {
		c.awaits = 0
		c.answered <- r
	}
}

// call sends a request, and waits for its answer.
func (c *client) call(request func(id int) string) (position, error) {
	c.mu.Lock()
	id := c.next
	c.next++
	c.awaits = id
	if c.ended != nil {
		c.mu.Unlock()
		return position{}, c.ended
	}
	c.mu.Unlock()
	text := request(id)
	if err := c.ws.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		return position{}, err
	}
	select {
	case r := <-c.answered:
		return r.at, r.err
	case <-time.After(patience):
		return position{}, fmt.Errorf("no answer to %s", text)
	}
}

func (c *client) join(room string, since *position, watch bool) (position, error) {
	return c.call(func(id int) string { return c.speak.join(id, room, since, watch) })
}

func (c *client) leave(room string) error {
	_, err := c.call(func(id int) string { return c.speak.leave(id, room) })
	return err
}

// publish publishes a text with as many bytes.
func (c *client) publish(room string, size int) error {
	text := mark + strings.Repeat("x", size-1)
	_, err := c.call(func(id int) string { return c.speak.publish(id, room, text) })
	return err
}

// messages returns how many messages have arrived.
func (c *client) messages() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got
}

// await waits until so many messages have arrived.
func (c *client) await(n int) error {
	c.mu.Lock()
	if c.got >= n {
		c.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	c.want, c.reached = n, reached
	c.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%d of %d messages", c.messages(), n)
	}
}
