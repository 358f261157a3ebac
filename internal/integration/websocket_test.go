package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/leaktest"
	"github.com/realtime-go/realtime/internal/long"
)

// These tests use real sockets: what a bubble cannot show.

type site struct {
	*httptest.Server
	rt *realtime.Manager
}

func newSite(t *testing.T, o realtime.Options, secure bool) *site {
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
	s := &site{Server: httptest.NewUnstartedServer(mux), rt: rt}
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

// dial opens a WebSocket as a well-behaved client does.
func (s *site) dial(t *testing.T, user string) *websocket.Conn {
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

func (s *site) next(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, p, err := ws.Read(ctx)
	require.NoError(t, err)
	return shorthand(t, string(p))
}

func roads(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Run("tcp", func(t *testing.T) { test(t, false) })
	t.Run("tls", func(t *testing.T) { test(t, true) })
}

func TestSocketChat(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, announced(), secure)
		alice := s.dial(t, "alice")
		bob := s.dial(t, "bob")
		require.Equal(t, "bob joined", s.next(t, alice))
		for text, want := range map[string]string{
			"hello":                    "bob: hello",
			strings.Repeat("x", 126):   "bob: " + strings.Repeat("x", 126),
			strings.Repeat("ü", 20000): "bob: " + strings.Repeat("ü", 20000),
		} {
			p, err := json.Marshal(map[string]string{"content": text, "target": "alice"})
			require.NoError(t, err)
			require.NoError(t, bob.Write(t.Context(), websocket.MessageText, p))
			require.Equal(t, want, s.next(t, alice))
		}
		require.NoError(t, bob.Write(t.Context(), websocket.MessageText, []byte("ping")))
		require.Equal(t, "pong", s.next(t, bob))
		require.NoError(t, bob.Close(1000, ""))
		require.Equal(t, "bob left", s.next(t, alice))
	})
}

func TestSocketAnswersProtocolPings(t *testing.T) {
	s := newSite(t, realtime.Options{}, false)
	ws := s.dial(t, "alice")
	ctx := ws.CloseRead(t.Context())
	for range 10 {
		require.NoError(t, ws.Ping(ctx))
	}
	var conn *realtime.Conn
	for c := range s.rt.User("alice").LocalConns() {
		conn = c
	}
	_, err := conn.Ping(ctx)
	require.NoError(t, err)
}

func TestSocketCloseHandshakes(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, realtime.Options{}, secure)
		t.Run("ours, behind what is queued", func(t *testing.T) {
			ws := s.dial(t, "alice")
			_, err := s.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{Type: "last"})
			require.NoError(t, err)
			_, err = s.rt.User("alice").Disconnect(t.Context(), 4500, "banned")
			require.NoError(t, err)
			require.Equal(t, "last null", s.next(t, ws))
			_, _, err = ws.Read(t.Context())
			require.EqualValues(t, 4500, websocket.CloseStatus(err))
			require.ErrorContains(t, err, "banned")
		})
		t.Run("theirs is answered", func(t *testing.T) {
			ws := s.dial(t, "alice")
			require.NoError(t, ws.Close(4001, "bye"), "Close fails unless the code comes back")
		})
		t.Run("theirs without a code", func(t *testing.T) {
			ws := s.dial(t, "alice")
			require.NoError(t, ws.Close(websocket.StatusNoStatusRcvd, ""))
		})
		t.Run("too big", func(t *testing.T) {
			ws := s.dial(t, "alice")
			go func() { _ = ws.Write(context.Background(), websocket.MessageText, make([]byte, 100_000)) }()
			_, _, err := ws.Read(t.Context())
			require.EqualValues(t, realtime.CloseTooBig, websocket.CloseStatus(err))
		})
		t.Run("not UTF-8", func(t *testing.T) {
			ws := s.dial(t, "alice")
			require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte("\xff")))
			_, _, err := ws.Read(t.Context())
			require.EqualValues(t, realtime.CloseText, websocket.CloseStatus(err))
		})
	})
}

// rawDial opens a WebSocket by hand and returns the socket behind the handshake.
func (s *site) rawDial(t *testing.T, user, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	return s.rawDialWith(t, user, "", early)
}

// rawDialWith is rawDial with more headers, each a line.
func (s *site) rawDialWith(t *testing.T, user, headers, early string) (net.Conn, *bufio.Reader) {
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

// masked returns a client frame; the mask is zero, so the payload is as it is.
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

// readFrame reads one frame of the server's.
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

// closeCode is what the payload of a close frame says, 0 if nothing.
func closeCode(payload string) realtime.CloseCode {
	if len(payload) < 2 {
		return 0
	}
	return realtime.CloseCode(binary.BigEndian.Uint16([]byte(payload)))
}

// Frames that come in one packet with the handshake are not lost.
func TestSocketPipelinedFrames(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, realtime.Options{}, secure)
		_, br := s.rawDial(t, "alice", masked(0x81, "ping")+
			masked(0x81, `{"content":"`+strings.Repeat("x", 3000)+`","target":"alice"}`)+masked(0x81, "ping"))
		var got []string
		for range 4 {
			_, payload := readFrame(t, br)
			got = append(got, shorthand(t, payload))
		}
		require.Equal(t, []string{"welcome", "pong", "alice: " + strings.Repeat("x", 3000), "pong"}, got)
	})
}

func TestSocketProtocolErrors(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, realtime.Options{}, secure)
		for name, test := range map[string]struct {
			bytes string
			code  uint16
		}{
			"unmasked":             {"\x81\x01x", 1002},
			"reserved bit":         {masked(0xC1, "x"), 1002},
			"reserved opcode":      {masked(0x83, "x"), 1002},
			"stray continuation":   {masked(0x80, "x"), 1002},
			"fragmented ping":      {masked(0x09, "x"), 1002},
			"long ping":            {masked(0x89, strings.Repeat("x", 126)), 1002},
			"message in a message": {masked(0x01, "x") + masked(0x81, "y"), 1002},
			"bad close code":       {masked(0x88, "\x03\xed"), 1002},
			"half a close code":    {masked(0x88, "\x03"), 1002},
			"close reason":         {masked(0x88, "\x03\xe8bad\xff"), 1007},
			"too many fragments":   {masked(0x01, "") + strings.Repeat(masked(0x00, ""), 1024), 1008},
			"announced too long":   {"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01", 1009},
			"length overflow":      {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1002},
			"and much behind it":   {"\x81\x01x" + strings.Repeat("y", 200_000), 1002},
		} {
			t.Run(name, func(t *testing.T) {
				nc, br := s.rawDial(t, "alice", "")
				_, _ = readFrame(t, br)
				_, err := nc.Write([]byte(test.bytes))
				require.NoError(t, err)
				if half, ok := nc.(interface{ CloseWrite() error }); ok {
					require.NoError(t, half.CloseWrite())
				}
				op, payload := readFrame(t, br)
				require.Equal(t, byte(0x8), op)
				require.Equal(t, test.code, binary.BigEndian.Uint16([]byte(payload)))
				_, err = br.ReadByte()
				require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF),
					"the socket is closed, not reset: %v", err)
			})
		}
	})
}

// TestSocketTornMessage: what is left of a message when its connection ends is no message,
// however much like one it looks.
func TestSocketTornMessage(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, realtime.Options{}, secure)
		for _, torn := range []string{
			masked(0x01, "ping"),                       // the first of several frames
			masked(0x81, "pingpong")[:len("......")+4], // half of one
			masked(0x81, "ping")[:6],                   // nothing but the header
		} {
			nc, br := s.rawDial(t, "alice", "")
			_, _ = readFrame(t, br)
			_, err := nc.Write([]byte(torn))
			require.NoError(t, err)
			switch nc := nc.(type) {
			case *net.TCPConn:
				require.NoError(t, nc.CloseWrite())
			case *tls.Conn:
				require.NoError(t, nc.CloseWrite())
			}
			_, err = br.ReadByte()
			require.Error(t, err)
		}
		require.NoError(t, s.rt.Close())
		require.Zero(t, s.rt.Stats().Received)
		require.EqualValues(t, 3, s.rt.Stats().Ended.Lost)
	})
}

func TestSocketPingFlood(t *testing.T) {
	s := newSite(t, realtime.Options{}, false)
	nc, br := s.rawDial(t, "alice", "")
	_, _ = readFrame(t, br)
	go func() { _, _ = nc.Write([]byte(strings.Repeat(masked(0x89, "x"), 100))) }()
	for {
		op, payload := readFrame(t, br)
		if op == 0x8 {
			require.EqualValues(t, realtime.ClosePolicy, binary.BigEndian.Uint16([]byte(payload)))
			return
		}
		require.Equal(t, byte(0xA), op)
	}
}

// What a hub goes through: thousands of connections that come, join and are cut, a
// client that is killed, one that stalls and one that sends garbage. A bystander in
// the same room misses nothing, and nothing is left.
func TestSocketChurn(t *testing.T) {
	rounds := long.Of(1000, 10_000, 10_000)
	goroutines, files := runtime.NumGoroutine(), leaktest.OpenFiles()
	s := newSite(t, realtime.Options{InboundRate: -1}, false)
	join := func(user string) {
		for c := range s.rt.User(user).LocalConns() {
			_, err := s.rt.Join(t.Context(), c.ID(), "lobby")
			require.NoError(t, err)
		}
	}
	bystander := s.dial(t, "bystander")
	join("bystander")
	stalled, _ := s.rawDial(t, "stalled", "")
	join("stalled")
	defer func() { _ = stalled.Close() }()

	var visitors sync.WaitGroup
	for worker := range 4 {
		visitors.Go(func() {
			for i := range rounds / 4 { // each a handshake, a join and an end of some kind
				user := fmt.Sprintf("v%d-%d", worker, i)
				nc, br := s.rawDial(t, user, "")
				_, _ = readFrame(t, br)
				join(user)
				switch i % 4 {
				case 0:
					_, _ = nc.Write([]byte("garbage that is no frame at all"))
				case 1: // half a message
					_, _ = nc.Write([]byte(masked(0x81, `{"content":"hi","target":"nobody"}`))[:9])
				case 2:
					if tcp, ok := nc.(*net.TCPConn); ok {
						_ = tcp.SetLinger(0) // reset
					}
				}
				_ = nc.Close()
			}
		})
	}
	const messages = 300
	go func() {
		for i := range messages {
			_, _ = s.rt.Send(context.Background(), realtime.ToRoom("lobby"), realtime.Message{
				Type: "tick", Content: fmt.Appendf(nil, "%d", i),
			})
		}
	}()
	for i := range messages {
		require.Equal(t, fmt.Sprintf("tick %d", i), s.next(t, bystander))
	}
	visitors.Wait()
	_ = stalled.Close()
	require.Eventually(t, func() bool {
		// The bystander, the server and its connection are what is left.
		return s.rt.Stats().Conns == 1 && runtime.NumGoroutine() <= goroutines+10 &&
			leaktest.OpenFiles() <= files+4
	}, 5*time.Second, 10*time.Millisecond, "%+v", s.rt.Stats())
	require.Equal(t, 1, s.rt.Stats().Users)
	require.Equal(t, 1, s.rt.Stats().Rooms)
}

// Handshakes that never finish and requests that are refused leave nothing.
func TestSocketShutdownWithSilentClients(t *testing.T) {
	s := newSite(t, realtime.Options{}, false)
	for i := range 20 {
		s.rawDial(t, fmt.Sprintf("silent%d", i), "") // never answers the close frame
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.rt.Shutdown(ctx))
	require.Zero(t, s.rt.Stats().Conns)
}

// wrapped is a connection that embeds a socket and does something else with what is
// written: to write to the socket directly would go around it.
type wrapped struct {
	*net.TCPConn
	bytes *atomic.Int64
}

func (w wrapped) Write(p []byte) (int, error) {
	w.bytes.Add(int64(len(p)))
	return w.TCPConn.Write(p)
}

type wrappingListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l wrappingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrapped{nc.(*net.TCPConn), l.bytes}, nil
}

func TestOnlyPlainSocketsAreWrittenDirectly(t *testing.T) {
	direct := func(s *site) int {
		ws := s.dial(t, "alice")
		require.NoError(t, ws.Write(t.Context(), websocket.MessageText,
			[]byte(`{"content":"hi","target":"all"}`)))
		require.Equal(t, "alice: hi", s.next(t, ws))
		return s.rt.Stats().Direct
	}
	require.Equal(t, plainIsDirect, direct(newSite(t, realtime.Options{}, false)))
	require.Equal(t, 0, direct(newSite(t, realtime.Options{}, true)), "TLS")

	s := newSite(t, realtime.Options{}, false)
	s.Close()
	var bytes atomic.Int64
	s.Server = httptest.NewUnstartedServer(s.Config.Handler)
	s.Listener = wrappingListener{s.Listener, &bytes}
	s.Start()
	defer s.Close()
	require.Equal(t, 0, direct(s), "a wrapped connection")
	require.Greater(t, bytes.Load(), int64(200), "and it sees what is written")
}
