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

// curlClient is a plain client on a real socket, together with REST calls of its connection.
type curlClient struct {
	t  *testing.T
	s  *testServer
	ws *websocket.Conn
	id string
}

func (s *testServer) peer(t *testing.T, user string) *curlClient {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	p := &curlClient{t: t, s: s, ws: ws}
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

// expect checks the next frames. Then it sends a ping: the pong shows that there was no other
// frame.
func (p *curlClient) expect(want ...string) {
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

func (p *curlClient) send(text, target string) {
	p.t.Helper()
	frame, err := json.Marshal(map[string]string{"content": text, "target": target})
	require.NoError(p.t, err)
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageText, frame))
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageText, []byte("ping")))
	for p.s.next(p.t, p.ws) != "pong" { // the message has been handled; expect skips its echo
	}
}

func (p *curlClient) post(verb, body string) string {
	p.t.Helper()
	return p.s.curl(p.t, http.MethodPost, "/connections/"+p.id+"/"+verb, body)
}

func (s *testServer) curl(t *testing.T, method, path, body string) string {
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

// The plain protocol and the REST interface over real sockets.
func TestPlainProtocolOverSockets(t *testing.T) {
	s := newTestServer(t, announced(), false)
	alice := s.peer(t, "alice")
	bob := s.peer(t, "bob")
	alice.expect("bob joined")
	bob.expect()
	anon := s.peer(t, "")
	tab := s.peer(t, "alice")
	alice.expect()
	bob.expect()

	require.Equal(t, `{"status":"joined"}`, alice.post("join", `{"room_id":"R"}`))
	require.Equal(t, `{"status":"joined"}`, anon.post("join", `{"room_id":"R"}`))
	require.Equal(t, `{"status":"joined"}`, anon.post("join", `{"room_id":"R"}`))
	alice.expect("alice in R", "nobody in R")
	anon.expect("nobody in R")
	bob.expect()
	require.Equal(t, `{"room_id":"R","users":["alice"],"user_count":1}`,
		s.curl(t, http.MethodGet, "/rooms/R/users", ""))
	require.Equal(t, `{"error":"Connection not found"}`,
		s.curl(t, http.MethodPost, "/connections/conn_x/join", `{"room_id":"R"}`))

	bob.send("to all", "all")
	alice.expect("bob: to all")
	anon.expect("bob: to all")
	tab.expect("bob: to all")
	anon.send("to the room", "room")
	alice.expect("nobody: to the room")
	bob.expect()
	bob.send("to alice", "alice")
	alice.expect("bob: to alice")
	tab.expect("bob: to alice")
	anon.expect()
	bob.send("to nobody", "dave")
	require.NoError(t, bob.ws.Write(t.Context(), websocket.MessageText, []byte("rubbish")))

	require.Equal(t, `{"status":"joined"}`, alice.post("join", `{"room_id":"Q"}`))
	anon.expect("alice out R")
	alice.expect("alice in Q")
	require.Equal(t, `{"status":"left"}`, alice.post("leave", ""))
	require.Equal(t, `{"status":"left"}`, alice.post("leave", ""))
	alice.expect()

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
	s := newTestServer(t, realtime.Options{}, false)
	for _, user := range []string{"all", "room", "a%00b"} {
		_, res, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, nil)
		require.Error(t, err)
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
}
