package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// echoServer sends each message back to its client.
type echoServer struct {
	t          *testing.T
	upgrader   *Upgrader
	queues     sendqueue.Config
	conns      sync.WaitGroup
	background sync.WaitGroup // of the queues and the upgrader
	ended      chan error     // how connections ended
	deflates   chan bool      // whether each connection negotiated compression
}

func newEchoServer(t *testing.T, compress bool) (s *echoServer, url string) {
	s = &echoServer{t: t, ended: make(chan error, 100), deflates: make(chan bool, 100)}
	s.upgrader = NewUpgrader(s.background.Go, compress)
	s.queues = sendqueue.Config{
		MaxMessages: 10, MaxBytes: 1 << 20, WriteTimeout: time.Minute, Go: s.background.Go,
		Totals: &sendqueue.Totals{}, Flushers: sendqueue.NewFlushers(s.background.Go),
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		s.conns.Wait() // parked ones are woken by the end of their clients
		s.queues.Flushers.Close()
		s.upgrader.Close()
		s.background.Wait()
	})
	return s, server.URL
}

func (s *echoServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, hint := CheckHandshake(w, r)
	if status != 0 {
		http.Error(w, hint, status)
		return
	}
	ws, err := s.upgrader.Upgrade(w, r, r.RemoteAddr)
	if err != nil {
		s.ended <- err
		return
	}
	s.deflates <- ws.Deflates()
	c := &echoConn{Transport: ws, woken: make(chan struct{}, 1)}
	c.out = sendqueue.New(&s.queues, ws.Wire(), func(error) {})
	ws.Attach(c.out, c, 1<<20)
	// The answer to the handshake goes out with the first message.
	c.out.Push(sendqueue.NewFrame(sendqueue.OpText, []byte("hello")), sendqueue.Message, sendqueue.Disconnect)
	c.out.Start()
	s.conns.Go(func() { s.ended <- c.serve() })
}

// echoConn is one connection, which parks between messages where it can.
type echoConn struct {
	Transport
	out   *sendqueue.Queue
	woken chan struct{}
}

func (c *echoConn) Alive(int)         {}
func (c *echoConn) Waiting(bool, int) {}
func (c *echoConn) Ping() bool        { return true }
func (c *echoConn) Pong(string)       {}
func (c *echoConn) Wake()             { c.woken <- struct{}{} }

func (c *echoConn) serve() error {
	wait := false
	for {
		op, p, err := c.Next(nil, wait)
		switch {
		case errors.Is(err, inbound.ErrQuiet):
			if wait = !c.Park(); !wait {
				<-c.woken
			}
		case err != nil:
			c.out.Close(sendqueue.CloseFrame(1000, ""), CloseGrace)
			c.out.HeardAll()
			c.Discard()
			c.out.ReadEnded()
			<-c.out.Done()
			c.Release()
			return err
		default:
			c.out.Push(sendqueue.NewFrame(op, p), sendqueue.Message, sendqueue.Disconnect)
			wait = false
		}
	}
}

func dial(t *testing.T, url string, opts *websocket.DialOptions) *websocket.Conn {
	ws, _, err := websocket.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	read(t, ws)
	return ws
}

// echo sends a message and waits for it to come back.
func echo(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, ws.Write(ctx, websocket.MessageText, []byte("hello")))
	read(t, ws)
}

func read(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, p, err := ws.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p))
}

// Each message comes back, over connections that the transport reads and over those that the library
// reads, with parking between messages where there is any.
func TestEcho(t *testing.T) {
	for name, compress := range map[string]bool{"direct": false, "library": true} {
		t.Run(name, func(t *testing.T) {
			s, url := newEchoServer(t, true)
			opts := &websocket.DialOptions{}
			if compress {
				opts.CompressionMode = websocket.CompressionNoContextTakeover
				opts.CompressionThreshold = 1
			}
			for i := range 3 {
				ws := dial(t, url, opts)
				require.Equal(t, compress, (<-s.deflates))
				for range 3 {
					echo(t, ws)
				}
				_ = ws.Close(4000+websocket.StatusCode(i), fmt.Sprint(i)) // answered with 1000
				end := (<-s.ended).(*disconnect.CloseError)
				require.Equal(t, disconnect.CauseClient, end.Cause)
				require.EqualValues(t, 4000+i, end.Code)
				require.Equal(t, fmt.Sprint(i), end.Reason)
			}
		})
	}
}

// A close frame without a code is one of the peer's, and one with an invalid code is not.
func TestCloseFrames(t *testing.T) {
	for _, c := range []struct {
		payload string
		cause   disconnect.Cause
		code    disconnect.CloseCode
	}{
		{"", disconnect.CauseClient, disconnect.CloseNone},
		{"\x03\xe8bye", disconnect.CauseClient, disconnect.CloseNormal},
		{"\x03", disconnect.CauseProtocol, disconnect.CloseProtocol},
		{"\x03\xed", disconnect.CauseProtocol, disconnect.CloseProtocol}, // 1005
		{"\x03\xe7", disconnect.CauseProtocol, disconnect.CloseProtocol}, // 999
		{"\x03\xe8\xff", disconnect.CauseProtocol, disconnect.CloseText},
	} {
		end := closedByPeer(disconnect.ClosePayload([]byte(c.payload)))
		require.Equal(t, c.cause, end.Cause, "%q", c.payload)
		require.Equal(t, c.code, end.Code, "%q", c.payload)
	}
}
