//go:build linux

package load

import "fmt"

// dialect is how a server wants to be spoken to. What it wraps its deliveries in does not
// matter: they are told by the mark in the body.
type dialect struct {
	path   string // before the query
	hello  string // what the client says first
	greets int    // frames that come before a client may begin
	ping   string // a heartbeat in a message, and its answer
	pong   string

	// room and user append a message for the sender's room and one for a user.
	room func(dst, body []byte) []byte
	user func(dst []byte, to string, body []byte) []byte
}

// dialects are known by the name in the server's first line.
var dialects = map[string]dialect{
	"plain": {
		path: "/ws?",
		room: func(dst, body []byte) []byte { return append(dst, body...) },
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, "@%s %s", to, body)
		},
	},
	"realtime": {
		path:   "/ws?",
		greets: 1,
		room: func(dst, body []byte) []byte {
			return fmt.Appendf(dst, `{"content":"%s","target":"room"}`, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `{"content":"%s","target":"%s"}`, body, to)
		},
	},
	"centrifuge": {
		path:   "/ws?",
		hello:  `{"connect":{},"id":1}`,
		greets: 1,
		ping:   "{}",
		pong:   "{}",
		room: func(dst, body []byte) []byte {
			return fmt.Appendf(dst, `{"send":{"data":"%s"}}`, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `{"send":{"data":{"to":"%s","body":"%s"}}}`, to, body)
		},
	},
	"socket.io": {
		path:   "/socket.io/?EIO=4&transport=websocket&",
		hello:  "40",
		greets: 2,
		ping:   "2",
		pong:   "3",
		room: func(dst, body []byte) []byte {
			return fmt.Appendf(dst, `42["m","%s"]`, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `42["d","%s","%s"]`, to, body)
		},
	},
}
