// Command seed serves the benchmark with the design that this library was meant to improve on: one
// broadcast channel carries every message to every connection. Each connection decides whether the
// message is for it, and encodes it again.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/bench/serve"
)

func main() {
	serve.Run("plain", http.HandlerFunc(handle), "github.com/coder/websocket")
}

// message is an element of the broadcast channel.
type message struct {
	room, user string // one of them
	sender     string
	text       string
	at         int64
}

// envelope is a message to a client.
type envelope struct {
	Type      string  `json:"message_type"`
	Sender    string  `json:"sender_id"`
	Content   content `json:"content"`
	Timestamp int64   `json:"timestamp"`
}

type content struct {
	Type      string `json:"type"`
	Sender    string `json:"sender_id"`
	Content   string `json:"content"`
	Timestamp int64  `json:"timestamp"`
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
	sub := subscribe()
	defer sub.cancel()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go deliver(ctx, conn, who, sub)
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return
		}
		m := message{room: who.Room, sender: who.User, text: string(text), at: time.Now().Unix()}
		if name, ok := serve.Addressee(m.text); ok {
			m.room, m.user = "", name
		}
		broadcast(m)
	}
}

// deliver receives every message of the process, and writes those for its connection.
func deliver(ctx context.Context, conn *websocket.Conn, who serve.Client, sub subscription) {
	for {
		select {
		case m := <-sub:
			if m.user != "" && m.user != who.User || m.user == "" && m.room != who.Room {
				continue
			}
			frame, err := json.Marshal(envelope{
				Type: "chat", Sender: m.sender, Timestamp: m.at,
				Content: content{"chat_message", m.sender, m.text, m.at},
			})
			if err != nil || conn.Write(ctx, websocket.MessageText, frame) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
