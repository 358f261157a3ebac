package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

const welcomeFormat = `{"message_type":"welcome","sender_id":null,"content":{"connection_id":"conn_1","message":"",` +
	`"user_id":"alice","max_message_bytes":%d,"reconnect_ms":%d},"timestamp":1}`

// script is one connection of a server whose behaviour the test defines.
type script struct {
	t  *testing.T
	ws *websocket.Conn
}

// scripted returns a server that sends a welcome over the n-th connection, counted from 1, calls
// do, and closes the connection when do returns.
func scripted(t *testing.T, do func(s *script, n int)) http.Handler {
	return scriptedSpread(t, 0, do)
}

// scriptedSpread is scripted with a reconnect_ms in the welcome.
func scriptedSpread(t *testing.T, reconnectMS int, do func(s *script, n int)) http.Handler {
	return scriptedRaw(t, func(s *script, n int) {
		s.send(fmt.Sprintf(welcomeFormat, 65536, reconnectMS))
		do(s, n)
	})
}

// scriptedWith is scripted with additional members in the n-th welcome, such as an inbox.
func scriptedWith(t *testing.T, more func(n int) string, do func(s *script, n int)) http.Handler {
	return scriptedRaw(t, func(s *script, n int) {
		s.send(`{"message_type":"welcome","content":{"max_message_bytes":65536` + more(n) + `},"timestamp":1}`)
		do(s, n)
	})
}

// emptyInbox returns the part of a welcome with an inbox without messages.
func emptyInbox(int) string { return `,"inbox":{"epoch":"i1","offset":0,"top":0}` }

// scriptedRaw is scripted without a welcome.
func scriptedRaw(t *testing.T, do func(s *script, n int)) http.Handler {
	var n atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{realtime.V1}, InsecureSkipVerify: true,
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.CloseNow() }()
		do(&script{t, ws}, int(n.Add(1)))
	})
}

func (s *script) send(frame string) {
	if err := s.ws.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
		s.t.Errorf("server cannot write %s: %v", frame, err)
	}
}

// trySend is send for a connection that may have ended.
func (s *script) trySend(frame string) {
	_ = s.ws.Write(context.Background(), websocket.MessageText, []byte(frame))
}

// clientRequest is a request that the server has received.
type clientRequest struct {
	Type    string          `json:"type"`
	ID      int             `json:"id"`
	Room    string          `json:"room"`
	Token   string          `json:"token"`
	Content json.RawMessage `json:"content"`
	MsgID   string          `json:"message_id"`
	Offset  int             `json:"offset"`
	raw     string
}

// receive waits for the next request that is not seen. Its type is "gone" if the connection has
// ended.
func (s *script) receive() clientRequest {
	a := s.receiveAny()
	for a.Type == "seen" {
		a = s.receiveAny()
	}
	return a
}

// receiveAny is receive for all requests.
func (s *script) receiveAny() (a clientRequest) {
	kind, p, err := s.ws.Read(context.Background())
	if err != nil {
		return clientRequest{Type: "gone", raw: err.Error()}
	}
	a.raw = string(p)
	if kind == websocket.MessageBinary {
		a.Type = "binary"
	} else if a.raw == "ping" {
		a.Type = "ping"
	} else if err := json.Unmarshal(p, &a); err != nil {
		s.t.Error(err)
	}
	return a
}

// reply answers a request with content.
func (s *script) reply(a clientRequest, content string) {
	s.send(fmt.Sprintf(`{"message_type":"reply","id":%d,"content":%s}`, a.ID, content))
}

func (s *script) replyError(a clientRequest, code string) {
	s.send(fmt.Sprintf(`{"message_type":"error","id":%d,"content":{"code":%q,"message":""}}`, a.ID, code))
}

// expect waits for a request and compares it with want, without its ID.
func (s *script) expect(want string) clientRequest {
	a := s.receive()
	if got := regexp.MustCompile(`,"id":\d+`).ReplaceAllString(a.raw, ""); got != want {
		s.t.Errorf("server got %s, want %s", got, want)
	}
	return a
}

// sendKept sends kept messages to the lobby in the epoch r1. offsets are pairs of offset and prev.
func (s *script) sendKept(offsets ...int) { s.sendKeptIn(`"room":"lobby",`, "r1", offsets...) }

// sendInbox sends kept messages to the user in the epoch i1.
func (s *script) sendInbox(offsets ...int) { s.sendKeptIn("", "i1", offsets...) }

func (s *script) sendKeptIn(room, epoch string, offsets ...int) {
	for pair := range slices.Chunk(offsets, 2) {
		s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":%d,"timestamp":1,%s`+
			`"offset":%d,"prev":%d,"epoch":%q}`, pair[0], room, pair[0], pair[1], epoch))
	}
}

func (s *script) replyEmpty(a clientRequest) {
	s.send(fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID))
}

// sendChat sends a message of bob to the lobby.
func (s *script) sendChat(id, word string) {
	s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":%q,"timestamp":1,"id":%q,"room":"lobby"}`, word, id))
}

// serveUntilClosed answers everything until the connection ends.
func (s *script) serveUntilClosed() {
	for a := s.receive(); a.Type != "gone"; a = s.receive() {
		if a.raw == "ping" {
			s.send("pong")
		} else if a.ID != 0 {
			s.replyEmpty(a)
		}
	}
}
