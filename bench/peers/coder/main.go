// Command coder serves the benchmark with coder/websocket alone, like its chat example: each client
// has a goroutine that reads, a goroutine that writes, and a channel between them. A slow client is
// closed.
package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/bench/serve"
)

var index = serve.Index[*room, *client]{Make: func(string) *room {
	return &room{members: make(map[*client]struct{})}
}}

func main() {
	serve.Run("plain", http.HandlerFunc(handle), "github.com/coder/websocket")
}

// mode returns the compression mode that the documentation of coder/websocket recommends.
func mode() websocket.CompressionMode {
	if serve.Deflate() {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

func handle(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode()})
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(64 << 10)
	who := serve.Identity(r)
	c := &client{conn: conn, messages: make(chan []byte, 256)}
	rm := index.Room(who.Room)
	index.Add(who.Name(), c)
	rm.add(c)
	defer func() {
		index.Remove(who.Name())
		rm.remove(c)
	}()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go c.write(ctx)
	c.read(ctx, rm)
}

// client is one connection.
type client struct {
	conn     *websocket.Conn
	messages chan []byte
}

func (c *client) read(ctx context.Context, rm *room) {
	for {
		_, text, err := c.conn.Read(ctx)
		if err != nil {
			return
		}
		if name, ok := serve.Addressee(string(text)); !ok {
			rm.broadcast(text)
		} else if to, ok := index.User(name); ok {
			to.offer(text)
		}
	}
}

func (c *client) write(ctx context.Context) {
	for {
		select {
		case text := <-c.messages:
			timed, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := c.conn.Write(timed, websocket.MessageText, text)
			cancel()
			if err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *client) offer(text []byte) {
	select {
	case c.messages <- text:
	default:
		go func() { _ = c.conn.Close(websocket.StatusPolicyViolation, "too slow") }()
	}
}

// room is the set of its members.
type room struct {
	mu      sync.Mutex
	members map[*client]struct{}
}

func (r *room) add(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[c] = struct{}{}
}

func (r *room) remove(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

func (r *room) broadcast(text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.members {
		c.offer(text)
	}
}
