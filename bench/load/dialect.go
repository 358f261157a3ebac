//go:build linux

package load

import "fmt"

// dialect is the message format that a server expects. The format of its deliveries does not
// matter: they are recognised by the mark in the body.
type dialect struct {
	path   string // before the query
	hello  string // the first message of the client; empty: none
	greets int    // number of frames that a client must receive before it may send
	ping   string // text of a heartbeat of the server, and of its answer
	pong   string

	// room and user append a message to the sender's room, which some servers know without its
	// name, and a message to a user.
	room func(dst []byte, room string, body []byte) []byte
	user func(dst []byte, to string, body []byte) []byte
}

// dialects are keyed by the name in the first line of a server's output.
var dialects = map[string]dialect{
	"plain": {
		path: "/ws?",
		room: func(dst []byte, _ string, body []byte) []byte { return append(dst, body...) },
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, "@%s %s", to, body)
		},
	},
	"realtime": {
		path:   "/ws?",
		greets: 1,
		room: func(dst []byte, _ string, body []byte) []byte {
			return fmt.Appendf(dst, `{"content":"%s","target":"room"}`, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `{"content":"%s","target":"%s"}`, body, to)
		},
	},
	"realtime.v1": {
		path:   "/ws?protocol=realtime.v1&",
		greets: 2, // welcome, and joined
		room: func(dst []byte, room string, body []byte) []byte {
			return fmt.Appendf(dst, `{"type":"send","room":"%s","content":{"text":"%s"}}`, room, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `{"type":"send","user":"%s","content":{"text":"%s"}}`, to, body)
		},
	},
	"centrifuge": {
		path:   "/ws?",
		hello:  `{"connect":{},"id":1}`,
		greets: 1,
		ping:   "{}",
		pong:   "{}",
		room: func(dst []byte, _ string, body []byte) []byte {
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
		room: func(dst []byte, _ string, body []byte) []byte {
			return fmt.Appendf(dst, `42["m","%s"]`, body)
		},
		user: func(dst []byte, to string, body []byte) []byte {
			return fmt.Appendf(dst, `42["d","%s","%s"]`, to, body)
		},
	},
}
