// Command melody serves the benchmark with melody, like its example of a chat with several rooms:
// one Melody, sessions with keys, and BroadcastFilter.
package main

import (
	"net/http"

	"github.com/olahol/melody"

	"github.com/realtime-go/realtime/bench/serve"
)

const whoKey = "who"

func main() {
	m := melody.New()
	m.Config.MaxMessageSize = 64 << 10
	m.Upgrader.EnableCompression = serve.Deflate()
	m.HandleMessage(func(s *melody.Session, text []byte) {
		if name, ok := serve.Addressee(string(text)); ok {
			_ = m.BroadcastFilter(text, func(q *melody.Session) bool {
				return who(q).Name() == name
			})
			return
		}
		room := who(s).Room
		_ = m.BroadcastFilter(text, func(q *melody.Session) bool { return who(q).Room == room })
	})
	serve.Run("plain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = m.HandleRequestWithKeys(w, r, map[string]any{whoKey: serve.Identity(r)})
	}), "github.com/olahol/melody", "github.com/gorilla/websocket")
}

func who(s *melody.Session) serve.Client {
	v, _ := s.Get(whoKey)
	c, _ := v.(serve.Client)
	return c
}
