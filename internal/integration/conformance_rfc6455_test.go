package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// TestRFC6455 sends the cases over each kind of connection, whole and in pieces, to one server for
// each kind. A bystander receives exactly the chats that are delivered.
func TestRFC6455(t *testing.T) {
	cases := rfcCases(t)
	for _, kind := range []struct {
		name   string
		direct int // the number of connections, out of one, that are written directly
		secure bool
		listen func(net.Listener) net.Listener // nil: the listener is not wrapped
		speak  func(nc net.Conn, stream string)
	}{
		{name: "tcp", direct: plainIsDirect, speak: atOnce},
		{name: "tcp, a byte at a time", direct: plainIsDirect, speak: bytewise},
		{name: "wrapped", speak: atOnce, listen: func(l net.Listener) net.Listener {
			return wrappingListener{l, new(atomic.Int64)}
		}},
		{name: "wrapped, read a byte at a time", speak: atOnce, listen: func(l net.Listener) net.Listener {
			return slowStartListener{l}
		}},
		{name: "tls", secure: true, speak: atOnce},
	} {
		t.Run(kind.name, func(t *testing.T) {
			s, ends := echoServer(t, kind.secure, kind.listen)
			heard := s.bystander(t)
			require.Equal(t, kind.direct, s.rt.Stats().Direct)
			user := func(i int) string { return fmt.Sprint("user", i) }
			t.Run("case", func(t *testing.T) {
				for i, c := range cases {
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						v, stream := c.verdict()
						nc, br := s.rawDialWith(t, user(i), c.headers(), "")
						out := converse(t, nc, br, func() { kind.speak(nc, stream) })
						v.requireAnswers(t, user(i), serverFrames(t, out))
					})
				}
			})
			all, why := heard(), ends()
			for i, c := range cases {
				v, _ := c.verdict()
				require.Equal(t, v.chats(), all[user(i)], c.name)
				end := why[user(i)]
				require.NotNil(t, end, c.name)
				if v.end.cause != realtime.CauseClient {
					end.Reason = ""
				}
				require.Equal(t, v.end, ending{end.Cause, end.Code, end.Reason}, c.name)
			}
		})
	}
}

// verdict returns the expected result of the case, and the bytes to send. If the connection stays
// open, another message is added.
func (c *rfcCase) verdict() (*expectation, string) {
	v := &expectation{pongs: c.pongs, end: c.end}
	for _, content := range c.hears {
		v.texts = append(v.texts, chat(content))
	}
	if c.end != (ending{}) {
		return v, c.in
	}
	v.texts = append(v.texts, chat("still here"))
	v.end = closes(realtime.CloseNormal, "bye")
	return v, c.in + say("still here") + closeFrame(1000, "bye")
}

// The table and the reference model, with which the fuzz target compares, agree.
func TestReferenceModel(t *testing.T) {
	names := map[string]bool{}
	for _, c := range rfcCases(t) {
		require.False(t, names[c.name], "%s: twice", c.name)
		names[c.name] = true
		want, stream := c.verdict()
		got := readReference(stream, maxMessage, c.deflate)
		if got.open {
			continue
		}
		require.Equal(t, want.end, got.end, c.name)
		require.Equal(t, want.texts, slices.DeleteFunc(got.texts, func(text string) bool {
			_, ok := chatOf(text)
			return !ok
		}), c.name)
		require.Equal(t, want.pongs, got.pongs, c.name)
	}
}

// echoServer returns a server that sends each chat to its sender and to the bystander. The function
// returns how the connections have ended.
func echoServer(t *testing.T, secure bool, listen func(net.Listener) net.Listener) (*testServer, func() map[string]*realtime.CloseError) {
	var mu sync.Mutex
	var s *testServer
	ends := map[string]*realtime.CloseError{}
	o := compressing()
	o.OnMessage = func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
		_, err := s.rt.Send(ctx, realtime.ToUser(c.UserID(), "bystander"), in.Message)
		return nil, err
	}
	o.OnDisconnect = func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
		mu.Lock()
		defer mu.Unlock()
		ends[c.UserID()] = why
	}
	s = newTestServer(t, o, secure)
	if listen != nil {
		s.Close()
		s.Server = httptest.NewUnstartedServer(s.Config.Handler)
		s.Listener = listen(s.Listener)
		s.Start()
	}
	return s, func() map[string]*realtime.CloseError {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.rt.Shutdown(ctx))
		return ends
	}
}

// bystander connects a client that only reads. The function returns the texts that it has received,
// by sender.
func (s *testServer) bystander(t *testing.T) (heard func() map[string][]string) {
	ws := s.dial(t, "bystander")
	said := map[string][]string{}
	done := make(chan error, 1)
	go func() {
		for {
			_, p, err := ws.Read(context.Background())
			var f plainFrame
			var c plainContent
			if err == nil {
				err = json.Unmarshal(p, &f)
			}
			if err != nil || f.Type == "over" {
				done <- err
				return
			}
			_ = json.Unmarshal(f.Content, &c)
			said[*f.Sender] = append(said[*f.Sender], c.Content)
		}
	}()
	return func() map[string][]string {
		_, err := s.rt.Send(t.Context(), realtime.ToUser("bystander"), realtime.Message{Type: "over"})
		require.NoError(t, err)
		require.NoError(t, <-done, "the bystander was disconnected")
		require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
		return said
	}
}

// atOnce writes a stream in one piece. The server may close the connection meanwhile.
func atOnce(nc net.Conn, stream string) { _, _ = io.WriteString(nc, stream) }

// bytewise writes a stream byte by byte. The server may close the connection meanwhile.
func bytewise(nc net.Conn, stream string) {
	for i := 0; i < len(stream); {
		n := 1
		if i > byteUpTo && i < len(stream)-byteUpTo {
			n = min(chunk, len(stream)-byteUpTo-i)
		}
		if _, err := io.WriteString(nc, stream[i:i+n]); err != nil {
			return
		}
		i += n
	}
}

func (c *rfcCase) headers() string {
	if c.deflate {
		return offerLine
	}
	return ""
}

// The middle of a long stream is written in chunks: it contains only payload.
const byteUpTo, chunk = 8000, 997

// converse runs speak, then ends the sending direction, and returns all that the server sends.
// Bytes after a close frame may reset the connection, so errors of reading are ignored.
func converse(t *testing.T, nc net.Conn, br *bufio.Reader, speak func()) string {
	require.NoError(t, nc.SetDeadline(time.Now().Add(time.Minute)))
	var speaker sync.WaitGroup
	speaker.Go(func() {
		speak()
		_ = nc.(interface{ CloseWrite() error }).CloseWrite()
	})
	out, err := io.ReadAll(br)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection does not end")
	speaker.Wait()
	return string(out)
}

// slowStartListener accepts connections whose first bytes are read one at a time.
type slowStartListener struct{ net.Listener }

func (l slowStartListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowStartConn{nc, byteUpTo}, nil
}

type slowStartConn struct {
	net.Conn
	left int
}

func (c *slowStartConn) Read(p []byte) (int, error) {
	if c.left--; c.left > 0 {
		p = p[:min(1, len(p))]
	}
	return c.Conn.Read(p)
}
