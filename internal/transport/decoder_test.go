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
}

func newEchoServer(t *testing.T, compress bool) (s *echoServer, url string) {
	s = &echoServer{t: t, ended: make(chan error, 100)}
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
	c := &echoConn{WebSocket: ws, woken: make(chan struct{}, 1)}
	c.out = sendqueue.New(&s.queues, ws.Wire(), func(error) {})
	ws.Attach(c.out, c, 1<<20)
	// The answer to the handshake goes out with the first message.
	c.out.Push(sendqueue.NewFrame(sendqueue.OpText, []byte("hello")), sendqueue.Message, sendqueue.Disconnect)
	c.out.Start()
	s.conns.Go(func() { s.ended <- c.serve() })
}

// echoConn is one connection, which parks between messages where it can.
type echoConn struct {
	*WebSocket
	out   *sendqueue.Queue
	woken chan struct{}
}

func (c *echoConn) Alive(int)    {}
func (c *echoConn) Holds(int)    {}
func (c *echoConn) Waiting(bool) {}
func (c *echoConn) Ping() bool   { return true }
func (c *echoConn) Pong(string)  {}
func (c *echoConn) Wake()        { c.woken <- struct{}{} }

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

func dial(t *testing.T, url string) *websocket.Conn {
	ws, _, err := websocket.Dial(t.Context(), url, nil)
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

func (ds *decoders) count() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return len(ds.spare)
}

// A decoder that one of its own timers has closed is replaced, between two messages and before
// the first.
func TestStaleDecoder(t *testing.T) {
	s, url := newEchoServer(t, false)
	for range 4 {
		d, _ := newDecoder(nil)
		require.NoError(t, d.ws.CloseNow())
		s.upgrader.decoders.put(d)
	}
	for i := range 3 {
		ws := dial(t, url)
		echo(t, ws)
		echo(t, ws)
		_ = ws.Close(4000+websocket.StatusCode(i), fmt.Sprint(i)) // answered with 1000
		end := (<-s.ended).(*disconnect.CloseError)
		require.Equal(t, disconnect.CauseClient, end.Cause)
		require.EqualValues(t, 4000+i, end.Code)
	}
}

func TestSpareDecodersAreBounded(t *testing.T) {
	var ds decoders
	for range spareDecoders + 10 {
		d, agreed := newDecoder(nil)
		require.Empty(t, agreed)
		ds.put(d)
	}
	require.Equal(t, spareDecoders, ds.count())
	ds.close()
	require.Zero(t, ds.count())
}

// The decoder of a connection with compression stays with it while the connection is quiet.
func TestDecodersThatInflateAreNotLent(t *testing.T) {
	s, url := newEchoServer(t, true)
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1,
	})
	require.NoError(t, err)
	defer ws.CloseNow()
	read(t, ws)
	for range 3 { // it is parked in between
		echo(t, ws)
		require.Zero(t, s.upgrader.decoders.count())
	}
}
