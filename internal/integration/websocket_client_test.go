package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

type testServer struct {
	*httptest.Server
	rt *realtime.Manager
}

func newTestServer(t *testing.T, o realtime.Options, secure bool) *testServer {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Authenticate == nil {
		o.Authenticate = realtime.InsecureQueryUser
	}
	o.Authorize = realtime.InsecureAllowAll
	rt := realtime.New(&o)
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/", rt.API(realtime.InsecureAllowRequests))
	s := &testServer{Server: httptest.NewUnstartedServer(mux), rt: rt}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		require.NoError(t, rt.Close())
		s.Close()
		require.NoError(t, rt.Shutdown(context.Background())) // waits for handlers, which still count
		requireConserved(t, rt.Stats())
	})
	return s
}

// dial opens a WebSocket with the client of coder/websocket.
func (s *testServer) dial(t *testing.T, user string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, &websocket.DialOptions{
		HTTPClient: s.Client(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	require.Equal(t, "welcome", s.next(t, ws))
	return ws
}

func (s *testServer) next(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, p, err := ws.Read(ctx)
	require.NoError(t, err)
	return shorthand(t, string(p))
}

func plainAndTLS(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Run("tcp", func(t *testing.T) { test(t, false) })
	t.Run("tls", func(t *testing.T) { test(t, true) })
}

// rawDial opens a WebSocket by hand and returns the socket after the handshake.
func (s *testServer) rawDial(t *testing.T, user, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	return s.rawDialWith(t, user, "", early)
}

// rawDialWith is the same as rawDial, with additional header lines.
func (s *testServer) rawDialWith(t *testing.T, user, headers, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	addr := s.Listener.Addr().String()
	var nc net.Conn
	var err error
	if s.TLS != nil {
		nc, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		nc, err = net.Dial("tcp", addr)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	_, err = fmt.Fprintf(nc, "GET /ws?user_id=%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n%s", user, addr, headers, early)
	require.NoError(t, err)
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(20*time.Second)))
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	return nc, br
}

// masked returns a frame of a client. The mask is zero, so the payload is unchanged.
func masked(head byte, payload string) string {
	frame := []byte{head, 0x80 | byte(len(payload))}
	switch {
	case len(payload) > 1<<16-1:
		frame[1] = 0x80 | 127
		frame = binary.BigEndian.AppendUint64(frame, uint64(len(payload)))
	case len(payload) > 125:
		frame[1] = 0x80 | 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	}
	return string(append(frame, 0, 0, 0, 0)) + payload
}

// readFrame reads one frame of the server.
func readFrame(t *testing.T, br *bufio.Reader) (op byte, payload string) {
	t.Helper()
	op, payload, err := nextFrame(br)
	require.NoError(t, err)
	return op, payload
}

func nextFrame(br *bufio.Reader) (op byte, payload string, err error) {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(br, head); err != nil {
		return 0, "", err
	}
	n := uint64(head[1])
	if n >= 126 {
		long := head[2:map[uint64]int{126: 4, 127: 10}[n]]
		if _, err := io.ReadFull(br, long); err != nil {
			return 0, "", err
		}
		n = 0
		for _, b := range long {
			n = n<<8 | uint64(b)
		}
	}
	p := make([]byte, n)
	_, err = io.ReadFull(br, p)
	return head[0] & 0x0F, string(p), err
}

// closeCode returns the code in the payload of a close frame, 0 if it has none.
func closeCode(payload string) realtime.CloseCode {
	if len(payload) < 2 {
		return 0
	}
	return realtime.CloseCode(binary.BigEndian.Uint16([]byte(payload)))
}

// frameClient is a client that reads single frames.
type frameClient struct {
	net.Conn
	t          *testing.T
	br         *bufio.Reader
	extensions string // the extensions in the answer
}

// offer opens a WebSocket by hand, offers extensions, and reads the welcome.
func (s *testServer) offer(t *testing.T, user, extensions string) *frameClient {
	t.Helper()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(nc, "GET /ws?user_id=%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: %s\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", user, extensions)
	require.NoError(t, err)
	c := &frameClient{Conn: nc, t: t, br: bufio.NewReader(nc)}
	res, err := http.ReadResponse(c.br, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	c.extensions = res.Header.Get("Sec-WebSocket-Extensions")
	text, compressed := c.next()
	require.Equal(t, "welcome", text)
	require.False(t, compressed)
	return c
}

// next reads one message in short notation, and whether it was compressed.
func (c *frameClient) next() (text string, compressed bool) {
	c.t.Helper()
	head, err := c.br.Peek(1)
	require.NoError(c.t, err)
	compressed = head[0]&0x40 != 0
	_, payload := readFrame(c.t, c.br)
	if compressed {
		payload = inflate(c.t, payload)
	}
	return shorthand(c.t, payload), compressed
}

// closed reads until the close frame and returns its code.
func (c *frameClient) closed() realtime.CloseCode {
	c.t.Helper()
	for {
		if op, payload := readFrame(c.t, c.br); op == 0x8 {
			return closeCode(payload)
		}
	}
}

const (
	browserOffer = "permessage-deflate; client_max_window_bits"
	accepted     = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
)

func note(word string) realtime.Message {
	return realtime.Message{Type: "n", Content: fmt.Appendf(nil, "%q", word)}
}

func (s *testServer) news(t *testing.T, to realtime.Target, word string) {
	t.Helper()
	_, err := s.rt.Send(t.Context(), to, note(word))
	require.NoError(t, err)
}

// dialMode opens a WebSocket with a mode of compression.
func (s *testServer) dialMode(t *testing.T, user string, mode websocket.CompressionMode) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id="+user, &websocket.DialOptions{
		HTTPClient: s.Client(), CompressionMode: mode, CompressionThreshold: 1,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	require.Equal(t, "welcome", s.next(t, ws))
	return ws
}

// joinUser puts all connections of a user into a room.
func (s *testServer) joinUser(t *testing.T, user, room string) {
	t.Helper()
	for c := range s.rt.User(user).LocalConns() {
		_, err := s.rt.Join(t.Context(), c.ID(), room)
		require.NoError(t, err)
	}
}
