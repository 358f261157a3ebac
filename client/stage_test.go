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

const hello = `{"message_type":"welcome","sender_id":null,"content":{"connection_id":"conn_1","message":"",` +
	`"user_id":"alice","max_message_bytes":%d,"reconnect_ms":%d},"timestamp":1}`

// stage is a connection of a server that does what a test says.
type stage struct {
	t  *testing.T
	ws *websocket.Conn
}

// play is a server that gives the n-th connection, from 1 on, to do, behind a welcome, and cuts
// it when do returns.
func play(t *testing.T, do func(s *stage, n int)) http.Handler {
	return playWith(t, 0, do)
}

// playWith is play with a reconnect_ms.
func playWith(t *testing.T, reconnectMS int, do func(s *stage, n int)) http.Handler {
	return bare(t, func(s *stage, n int) {
		s.says(fmt.Sprintf(hello, 65536, reconnectMS))
		do(s, n)
	})
}

// greeted is play with members that follow in the content of the n-th welcome, such as an inbox.
func greeted(t *testing.T, more func(n int) string, do func(s *stage, n int)) http.Handler {
	return bare(t, func(s *stage, n int) {
		s.says(`{"message_type":"welcome","content":{"max_message_bytes":65536` + more(n) + `},"timestamp":1}`)
		do(s, n)
	})
}

// empty is an inbox without messages.
func empty(int) string { return `,"inbox":{"epoch":"i1","offset":0,"top":0}` }

// bare is play without the welcome.
func bare(t *testing.T, do func(s *stage, n int)) http.Handler {
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
		do(&stage{t, ws}, int(n.Add(1)))
	})
}

func (s *stage) says(frame string) {
	if err := s.ws.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
		s.t.Errorf("server cannot write %s: %v", frame, err)
	}
}

// tries is says to a client that may be gone.
func (s *stage) tries(frame string) {
	_ = s.ws.Write(context.Background(), websocket.MessageText, []byte(frame))
}

// asked is a request that the server has got.
type asked struct {
	Type    string          `json:"type"`
	ID      int             `json:"id"`
	Room    string          `json:"room"`
	Token   string          `json:"token"`
	Content json.RawMessage `json:"content"`
	MsgID   string          `json:"message_id"`
	Offset  int             `json:"offset"`
	raw     string
}

// hears waits for the next request. It is "gone" when there is none any more.
func (s *stage) hears() (a asked) {
	kind, p, err := s.ws.Read(context.Background())
	if err != nil {
		return asked{Type: "gone", raw: err.Error()}
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

// answers answers with content.
func (s *stage) answers(a asked, content string) {
	s.says(fmt.Sprintf(`{"message_type":"reply","id":%d,"content":%s}`, a.ID, content))
}

func (s *stage) refuses(a asked, code string) {
	s.says(fmt.Sprintf(`{"message_type":"error","id":%d,"content":{"code":%q,"message":""}}`, a.ID, code))
}

// expects waits for a request, and checks it but for its id.
func (s *stage) expects(want string) asked {
	a := s.hears()
	if got := regexp.MustCompile(`,"id":\d+`).ReplaceAllString(a.raw, ""); got != want {
		s.t.Errorf("server got %s, want %s", got, want)
	}
	return a
}

// kept sends messages that are kept, in pairs of offset and prev: to the lobby, in the epoch r1.
func (s *stage) kept(offsets ...int) { s.keptIn(`"room":"lobby",`, "r1", offsets...) }

// inboxed sends messages to the user that are kept, in the epoch i1.
func (s *stage) inboxed(offsets ...int) { s.keptIn("", "i1", offsets...) }

func (s *stage) keptIn(room, epoch string, offsets ...int) {
	for pair := range slices.Chunk(offsets, 2) {
		s.says(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":%d,"timestamp":1,%s`+
			`"offset":%d,"prev":%d,"epoch":%q}`, pair[0], room, pair[0], pair[1], epoch))
	}
}

func (s *stage) replies(a asked) { s.says(fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID)) }

// chats sends a message of bob's to the lobby.
func (s *stage) chats(id, word string) {
	s.says(fmt.Sprintf(`{"message_type":"chat","sender_id":"bob","content":%q,"timestamp":1,"id":%q,"room":"lobby"}`, word, id))
}

// lasts reads until the client is gone, and answers everything.
func (s *stage) lasts() {
	for a := s.hears(); a.Type != "gone"; a = s.hears() {
		if a.raw == "ping" {
			s.says("pong")
		} else if a.ID != 0 {
			s.replies(a)
		}
	}
}
