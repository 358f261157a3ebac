package main

import "github.com/gorilla/websocket"

// hub is one room. Its goroutine owns clients and is the only one to send to them.
type hub struct {
	clients    map[*client]bool
	broadcast  chan *websocket.PreparedMessage
	direct     chan letter
	register   chan *client
	unregister chan *client
}

// letter is a message to one client.
type letter struct {
	to      *client
	message *websocket.PreparedMessage
}

func newHub(string) *hub {
	h := &hub{
		clients:    make(map[*client]bool),
		broadcast:  make(chan *websocket.PreparedMessage),
		direct:     make(chan letter),
		register:   make(chan *client),
		unregister: make(chan *client),
	}
	go h.run()
	return h
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.register:
			h.clients[c] = true
		case c := <-h.unregister:
			h.drop(c)
		case m := <-h.broadcast:
			for c := range h.clients {
				h.deliver(c, m)
			}
		case l := <-h.direct:
			if h.clients[l.to] {
				h.deliver(l.to, l.message)
			}
		}
	}
}

func (h *hub) deliver(c *client, m *websocket.PreparedMessage) {
	select {
	case c.send <- m:
	default:
		h.drop(c)
	}
}

func (h *hub) drop(c *client) {
	if h.clients[c] {
		delete(h.clients, c)
		close(c.send)
	}
}
