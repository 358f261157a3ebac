package integration_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

func TestSocketChat(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, announced(), secure)
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
	s := newTestServer(t, realtime.Options{}, false)
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
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
		t.Run("by the server, after a queue", func(t *testing.T) {
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
		t.Run("by the client", func(t *testing.T) {
			ws := s.dial(t, "alice")
			require.NoError(t, ws.Close(4001, "bye"), "Close fails unless the code comes back")
		})
		t.Run("by the client, without a code", func(t *testing.T) {
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

// Frames in the same packet as the handshake are not lost.
func TestFramesInThePacketOfTheHandshake(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
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
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
		for name, test := range map[string]struct {
			bytes string
			code  uint16
		}{
			"unmasked":                {"\x81\x01x", 1002},
			"reserved bit":            {masked(0xC1, "x"), 1002},
			"reserved opcode":         {masked(0x83, "x"), 1002},
			"stray continuation":      {masked(0x80, "x"), 1002},
			"fragmented ping":         {masked(0x09, "x"), 1002},
			"long ping":               {masked(0x89, strings.Repeat("x", 126)), 1002},
			"message in a message":    {masked(0x01, "x") + masked(0x81, "y"), 1002},
			"bad close code":          {masked(0x88, "\x03\xed"), 1002},
			"half a close code":       {masked(0x88, "\x03"), 1002},
			"close reason":            {masked(0x88, "\x03\xe8bad\xff"), 1007},
			"too many fragments":      {masked(0x01, "") + strings.Repeat(masked(0x00, ""), 1024), 1008},
			"announced too long":      {"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01", 1009},
			"length overflow":         {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1002},
			"and many bytes after it": {"\x81\x01x" + strings.Repeat("y", 200_000), 1002},
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

// If a connection ends in the middle of a message, its bytes are not delivered, even if they look
// like a complete message.
func TestIncompleteMessageIsNotDelivered(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
		for _, torn := range []string{
			masked(0x01, "ping"),                       // the first of several frames
			masked(0x81, "pingpong")[:len("......")+4], // half of a frame
			masked(0x81, "ping")[:6],                   // only the header
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
	s := newTestServer(t, realtime.Options{}, false)
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

// Many connections open, join and are lost, one client is killed, one stalls, and one sends
// garbage. A bystander in the same room receives every message, and in the end nothing is left.
func TestSocketChurn(t *testing.T) {
	rounds := long.Of(1000, 10_000, 10_000)
	goroutines, files := runtime.NumGoroutine(), leaktest.OpenFiles()
	s := newTestServer(t, realtime.Options{Limits: realtime.Limits{InboundRate: -1}}, false)
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
			for i := range rounds / 4 { // each is a handshake, a join and an end of some kind
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
		// The bystander, the server and its connection are left.
		return s.rt.Stats().Conns == 1 && runtime.NumGoroutine() <= goroutines+10 &&
			leaktest.OpenFiles() <= files+4
	}, 5*time.Second, 10*time.Millisecond, "%+v", s.rt.Stats())
	require.Equal(t, 1, s.rt.Stats().Users)
	require.Equal(t, 1, s.rt.Stats().Rooms)
}

// wrapped is a connection that embeds a socket and changes what is written. Writing to the socket
// directly would bypass it.
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
	direct := func(s *testServer) int {
		ws := s.dial(t, "alice")
		require.NoError(t, ws.Write(t.Context(), websocket.MessageText,
			[]byte(`{"content":"hi","target":"all"}`)))
		require.Equal(t, "alice: hi", s.next(t, ws))
		return s.rt.Stats().Direct
	}
	require.Equal(t, plainIsDirect, direct(newTestServer(t, realtime.Options{}, false)))
	require.Equal(t, 0, direct(newTestServer(t, realtime.Options{}, true)), "TLS")

	s := newTestServer(t, realtime.Options{}, false)
	s.Close()
	var bytes atomic.Int64
	s.Server = httptest.NewUnstartedServer(s.Config.Handler)
	s.Listener = wrappingListener{s.Listener, &bytes}
	s.Start()
	defer s.Close()
	require.Equal(t, 0, direct(s), "a wrapped connection")
	require.Greater(t, bytes.Load(), int64(200), "the wrapper sees the bytes")
}
