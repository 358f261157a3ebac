// Command gorilla serves the benchmark with gorilla/websocket, like its chat example: each room has
// a hub goroutine, and each client has a reading and a writing goroutine with a channel between
// them. It uses prepared messages, so that each message is framed, and compressed, once.
package main

import (
	"log"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/realtime-go/realtime/bench/serve"
)

var (
	upgrader = websocket.Upgrader{
		ReadBufferSize: 1024, WriteBufferSize: 1024, EnableCompression: serve.Deflate(),
	}
	index = serve.Index[*hub, *client]{Make: newHub}
)

func main() {
	serve.Run("plain", http.HandlerFunc(upgrade), "github.com/gorilla/websocket")
}

func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	who := serve.Identity(r)
	c := &client{
		hub:  index.Room(who.Room),
		name: who.Name(),
		conn: conn,
		send: make(chan *websocket.PreparedMessage, 256),
	}
	index.Add(c.name, c)
	c.hub.register <- c
	go c.writePump()
	go c.readPump()
}

// prepare frames a message once for all its receivers.
func prepare(text []byte) *websocket.PreparedMessage {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		log.Fatal(err) // cannot fail for text
	}
	return m
}
