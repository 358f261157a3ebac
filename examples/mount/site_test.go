package mount

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/realtime-go/realtime"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a running application with its Manager.
type site struct {
	t      *testing.T
	ctx    context.Context
	rt     *realtime.Manager
	server *httptest.Server
	url    string
	served chan struct{} // has an element for each handler that has returned
	log    *buffer       // of the Manager
	errors *buffer       // of the server: errors in handlers
}

// start starts an application. When the test ends, it is shut down, and no goroutine may remain.
func start(t *testing.T, m mounting) *site {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	s := &site{
		t: t, ctx: ctx, served: make(chan struct{}, 100), log: &buffer{}, errors: &buffer{},
	}
	s.rt = realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		Authorize:    realtime.InsecureAllowAll,
		Show:         realtime.ShowMembers, AnnounceUsers: true,
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	h := m.mount(s.rt, s.rt.API(realtime.InsecureAllowRequests))
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			s.served <- struct{}{}
		}))
	serve := m.serve
	if serve == nil {
		serve = (*httptest.Server).Start
	}
	s.server.Config.ErrorLog = log.New(s.errors, "", 0)
	serve(s.server)
	s.url = s.server.URL + m.prefix
	t.Cleanup(func() {
		err := s.rt.Shutdown(ctx)
		cancel()
		s.server.Close()
		require.NoError(t, err)
		require.Empty(t, s.errors.String())
		goleak.VerifyNone(t)
	})
	return s
}

// awaitHandler waits until one more handler has returned. Middleware that counts requests has
// finished then, too.
func (s *site) awaitHandler() {
	select {
	case <-s.served:
	case <-s.ctx.Done():
		require.FailNow(s.t, "a handler does not return")
	}
}

// dial opens a connection and returns its ID.
func (s *site) dial(user string) (*websocket.Conn, string) {
	ws, _, err := websocket.Dial(s.ctx, s.url+"/ws?user_id="+user, &websocket.DialOptions{
		HTTPClient: s.server.Client(),
	})
	require.NoError(s.t, err)
	s.awaitHandler()
	welcome := s.read(ws)
	require.Equal(s.t, "welcome", welcome.Type)
	return ws, welcome.Content.ConnectionID
}

// frame has the members of received frames that the tests use.
type frame struct {
	Type    string `json:"message_type"`
	Content struct {
		ConnectionID string `json:"connection_id"`
		Type         string `json:"type"`
		Room         string `json:"room_id"`
		Text         string `json:"content"`
	} `json:"content"`
}

func (s *site) read(ws *websocket.Conn) (f frame) {
	_, p, err := ws.Read(s.ctx)
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(p, &f), "%s", p)
	return f
}

func (s *site) write(ws *websocket.Conn, text string) {
	require.NoError(s.t, ws.Write(s.ctx, websocket.MessageText, []byte(text)))
}

// ping checks that the connection works in both directions.
func (s *site) ping(ws *websocket.Conn) {
	s.write(ws, "ping")
	_, p, err := ws.Read(s.ctx)
	require.NoError(s.t, err)
	require.Equal(s.t, "pong", string(p))
}

// call calls the REST API.
func (s *site) call(method, path, body string) (answer string) {
	r, err := http.NewRequestWithContext(s.ctx, method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	resp, err := s.server.Client().Do(r)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, resp.StatusCode, "%s %s: %s", method, path, p)
	s.awaitHandler()
	return string(p)
}

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
