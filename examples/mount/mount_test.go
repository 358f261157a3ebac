package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"
)

// TestMountings runs the same conversation with each mounting.
func TestMountings(t *testing.T) {
	for name, m := range mountings() {
		t.Run(name, func(t *testing.T) {
			s := start(t, m)
			ws, id := s.dial("ann")
			rooms := []string{"lobby", "a/b", "ü", "100%", "a b?c=d#e", "a//b"}
			for _, room := range rooms {
				s.chatInRoom(ws, id, room)
			}
			s.ping(ws) // a message is counted after it was written; the pong comes after that
			require.JSONEq(t, `{"status":"left"}`, s.call("POST", "/connections/"+id+"/leave", ""))

			var stats struct {
				Active   int `json:"active_connections"`
				Total    int `json:"total_connections"`
				Messages int `json:"total_messages"`
			}
			require.NoError(t, json.Unmarshal([]byte(s.call("GET", "/stats", "")), &stats))
			require.Equal(t, 1, stats.Active)
			require.Equal(t, 1, stats.Total)
			require.Equal(t, len(rooms), stats.Messages)
			require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
		})
	}
}

// chatInRoom adds a connection to a room and sends a message there.
func (s *site) chatInRoom(ws *websocket.Conn, id, room string) {
	body, err := json.Marshal(map[string]string{"room_id": room})
	require.NoError(s.t, err)
	answer := s.call("POST", "/connections/"+id+"/join", string(body))
	require.JSONEq(s.t, `{"status":"joined"}`, answer)
	notice := s.read(ws)
	require.Equal(s.t, "room_join", notice.Content.Type)
	require.Equal(s.t, room, notice.Content.Room)

	s.write(ws, `{"content":"hello","target":"room"}`)
	chat := s.read(ws)
	require.Equal(s.t, "chat", chat.Type)
	require.Equal(s.t, "hello", chat.Content.Text)

	var roster struct {
		Room  string   `json:"room_id"`
		Users []string `json:"users"`
		Count int      `json:"user_count"`
	}
	answer = s.call("GET", "/rooms/"+url.PathEscape(room)+"/users", "")
	require.NoError(s.t, json.Unmarshal([]byte(answer), &roster))
	require.Equal(s.t, room, roster.Room)
	require.Equal(s.t, []string{"ann"}, roster.Users)
	require.Equal(s.t, 1, roster.Count)
}

// TestTimeoutMiddleware tests that a connection lasts after the context of its request has ended
// and the timeout of the middleware has passed.
func TestTimeoutMiddleware(t *testing.T) {
	requests := make(chan context.Context, 1)
	remember := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests <- r.Context()
			next.ServeHTTP(w, r)
		})
	}
	s := start(t, mounting{mount: onChi(middleware.Timeout(50*time.Millisecond), remember)})
	ws, id := s.dial("ann")
	defer ws.CloseNow()

	request := <-requests
	<-request.Done() // ends when the handler returns
	deadline, ok := request.Deadline()
	require.True(t, ok)
	timeout, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	<-timeout.Done()

	s.ping(ws)
	conn := s.rt.Conn(id)
	require.NotNil(t, conn)
	require.NoError(t, conn.Context().Err())
}

// TestThrottleMiddleware tests that middleware that admits one request at a time does not limit the
// number of connections: a request ends when its connection is open.
func TestThrottleMiddleware(t *testing.T) {
	s := start(t, mounting{mount: onChi(middleware.Throttle(1))})
	var all []*websocket.Conn
	for i := range 5 {
		ws, _ := s.dial(fmt.Sprint("user", i))
		defer ws.CloseNow()
		all = append(all, ws)
	}
	for i, ws := range all {
		for range all[i+1:] {
			require.Equal(t, "userjoined", s.read(ws).Type)
		}
		s.ping(ws)
	}
}

// opaqueWriter is a ResponseWriter of middleware that offers neither hijacking nor Unwrap. It does
// not embed the original one, so it has only these three methods.
type opaqueWriter struct{ w http.ResponseWriter }

func (b opaqueWriter) Header() http.Header         { return b.w.Header() }
func (b opaqueWriter) Write(p []byte) (int, error) { return b.w.Write(p) }
func (b opaqueWriter) WriteHeader(status int)      { b.w.WriteHeader(status) }

// TestOpaqueMiddleware tests that the error names the type of such a ResponseWriter.
func TestOpaqueMiddleware(t *testing.T) {
	tests := map[string]func(http.Handler) http.Handler{
		"mount.opaqueWriter": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(opaqueWriter{w}, r)
			})
		},
		"*http.timeoutWriter": func(next http.Handler) http.Handler {
			return http.TimeoutHandler(next, 10*time.Second, "")
		},
	}
	for name, use := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, mounting{mount: onChi(use)})
			_, resp, err := websocket.Dial(s.ctx, s.url+"/ws", &websocket.DialOptions{
				HTTPClient: s.server.Client(),
			})
			require.Error(t, err)
			s.awaitHandler()
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
			var answer struct {
				Error string `json:"error"`
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
			require.Contains(t, answer.Error, name)
			require.Contains(t, s.log.String(), name)
			s.call("GET", "/stats", "") // everything else works
		})
	}
}
