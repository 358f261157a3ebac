package integration_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// peer is a plain client on a real socket, and curl.
type peer struct {
	t  *testing.T
	s  *site
	ws *websocket.Conn
	id string
}

func (s *site) peer(t *testing.T, user string) *peer {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	p := &peer{t: t, s: s, ws: ws}
	_, frame, err := ws.Read(t.Context())
	require.NoError(t, err)
	var welcome struct {
		Content struct {
			ConnectionID string `json:"connection_id"`
		} `json:"content"`
	}
	require.NoError(t, json.Unmarshal(frame, &welcome))
	p.id = welcome.Content.ConnectionID
	return p
}

// sees checks the next frames. What follows is a ping: its pong shows that nothing
// else came.
func (p *peer) sees(want ...string) {
	p.t.Helper()
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageText, []byte("ping")))
	got := []string{}
	for {
		frame := p.s.next(p.t, p.ws)
		if frame == "pong" {
			break
		}
		got = append(got, frame)
	}
	require.Equal(p.t, append([]string{}, want...), got)
}

func (p *peer) says(text, target string) {
	p.t.Helper()
	frame, err := json.Marshal(map[string]string{"content": text, "target": target})
	require.NoError(p.t, err)
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageText, frame))
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageText, []byte("ping")))
	for p.s.next(p.t, p.ws) != "pong" { // it has been handled; its echo is not looked at
	}
}

func (p *peer) posts(verb, body string) string {
	p.t.Helper()
	return p.s.curl(p.t, http.MethodPost, "/connections/"+p.id+"/"+verb, body)
}

func (s *site) curl(t *testing.T, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return strings.TrimSpace(string(answer))
}

// Who gets what, with plain clients and plain HTTP on real sockets.
func TestPlainProtocolOverSockets(t *testing.T) {
	s := newSite(t, announced(), false)
	alice := s.peer(t, "alice")
	bob := s.peer(t, "bob")
	alice.sees("bob joined")
	bob.sees()
	anon := s.peer(t, "")
	tab := s.peer(t, "alice")
	alice.sees()
	bob.sees()

	require.Equal(t, `{"status":"joined"}`, alice.posts("join", `{"room_id":"R"}`))
	require.Equal(t, `{"status":"joined"}`, anon.posts("join", `{"room_id":"R"}`))
	require.Equal(t, `{"status":"joined"}`, anon.posts("join", `{"room_id":"R"}`))
	alice.sees("alice in R", "nobody in R")
	anon.sees("nobody in R")
	bob.sees()
	require.Equal(t, `{"room_id":"R","users":["alice"],"user_count":1}`,
		s.curl(t, http.MethodGet, "/rooms/R/users", ""))
	require.Equal(t, `{"error":"Connection not found"}`,
		s.curl(t, http.MethodPost, "/connections/conn_x/join", `{"room_id":"R"}`))

	bob.says("to all", "all")
	alice.sees("bob: to all")
	anon.sees("bob: to all")
	tab.sees("bob: to all")
	anon.says("to the room", "room")
	alice.sees("nobody: to the room")
	bob.sees()
	bob.says("to alice", "alice")
	alice.sees("bob: to alice")
	tab.sees("bob: to alice")
	anon.sees()
	bob.says("to nobody", "dave")
	require.NoError(t, bob.ws.Write(t.Context(), websocket.MessageText, []byte("rubbish")))

	require.Equal(t, `{"status":"joined"}`, alice.posts("join", `{"room_id":"Q"}`))
	anon.sees("alice out R")
	alice.sees("alice in Q")
	require.Equal(t, `{"status":"left"}`, alice.posts("leave", ""))
	require.Equal(t, `{"status":"left"}`, alice.posts("leave", ""))
	alice.sees()

	require.NoError(t, tab.ws.CloseNow())
	require.NoError(t, anon.ws.Close(1000, ""))
	require.NoError(t, alice.ws.Close(1000, ""))
	for s.next(t, bob.ws) != "alice left" {
	}
	var stats struct {
		Total    uint64 `json:"total_connections"`
		Active   int    `json:"active_connections"`
		Peak     int    `json:"peak_connections"`
		Messages uint64 `json:"total_messages"`
		Updated  string `json:"last_stats_update"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.curl(t, http.MethodGet, "/stats", "")), &stats))
	require.EqualValues(t, 4, stats.Total)
	require.Equal(t, 4, stats.Peak)
	require.EqualValues(t, 4, stats.Messages, "chats, each once")
	require.NotEmpty(t, stats.Updated)
}

func TestReservedNamesAreRefused(t *testing.T) {
	s := newSite(t, realtime.Options{}, false)
	for _, user := range []string{"all", "room", "a%00b"} {
		_, res, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, nil)
		require.Error(t, err)
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
}
