package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// scriptedConn is a net.Conn in memory. The peer sends the bytes of in, a few at a time, after the
// answer to its handshake, and then nothing more.
type scriptedConn struct {
	in   string
	step int // bytes of a Read; 0: the peer sends nothing and stays connected

	mu     sync.Mutex
	change sync.Cond
	out    bytes.Buffer
	closed bool
}

func newScriptedConn(in string, step int) *scriptedConn {
	c := &scriptedConn{in: in, step: step}
	c.change.L = &c.mu
	return c
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for (c.out.Len() == 0 || c.step == 0) && !c.closed {
		c.change.Wait()
	}
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.in == "":
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.step)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *scriptedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change.Broadcast()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.out.Write(p)
}

func (c *scriptedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.change.Broadcast()
	return nil
}

// written returns what the server wrote until it closed the connection, and whether it has closed
// it.
func (c *scriptedConn) written() (out string, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String(), c.closed
}

func (*scriptedConn) LocalAddr() net.Addr              { return nil }
func (*scriptedConn) RemoteAddr() net.Addr             { return nil }
func (*scriptedConn) SetDeadline(time.Time) error      { return nil }
func (*scriptedConn) SetReadDeadline(time.Time) error  { return nil } // a Read always returns
func (*scriptedConn) SetWriteDeadline(time.Time) error { return nil } // a Write never waits

// hijackable is an http.ResponseWriter that can be hijacked.
type hijackable struct {
	*httptest.ResponseRecorder
	conn  net.Conn
	early string // bytes of the connection that the server has read already
}

func (s hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	br := bufio.NewReader(strings.NewReader(s.early))
	_, err := br.Peek(len(s.early))
	return s.conn, bufio.NewReadWriter(br, bufio.NewWriter(s.conn)), err
}

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

// upgradeRequest is a handshake of alice.
func upgradeRequest(deflate bool) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://site.example/ws?user_id=alice", nil)
	r.RemoteAddr = "10.0.0.1:1" // a private address has no limit
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", sampleKey)
	if deflate {
		r.Header.Set("Sec-WebSocket-Extensions", browserOffer)
	}
	return r
}

// A message and a close frame that are sent at once are both handled.
func TestMessageAndCloseAtOnce(t *testing.T) {
	const visits = 2000
	heard := 0
	o := realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			heard++
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		for i := range visits {
			conn := newScriptedConn(say("hi")+closeFrame(1000, ""), 1000)
			b.ServeHTTP(hijackable{httptest.NewRecorder(), conn, ""}, upgradeRequest(false))
			synctest.Wait()
			require.Equal(t, i+1, heard, fmt.Sprint("visit ", i))
		}
	})
}

// halfCloser is a connection with CloseWrite.
type halfCloser struct {
	net.Conn
	said chan struct{} // closed by CloseWrite
}

func (h halfCloser) CloseWrite() error {
	close(h.said)
	return nil
}

// RFC 6455 section 7.1.1: a peer that has sent its close frame may not have read everything yet. It
// would lose that if the server closed the connection while the peer still sends.
func TestServerReadsAfterTheCloseFrame(t *testing.T) {
	for name, last := range map[string]string{
		"close frame": closeFrame(1000, ""),
		"nonsense":    say("hi") + "\x81\x01x", // not masked
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{Authenticate: realtime.InsecureQueryUser}, func(t *testing.T, b *bed) {
				client, server := net.Pipe()
				said := make(chan struct{})
				go b.ServeHTTP(hijackable{httptest.NewRecorder(), halfCloser{server, said}, ""}, upgradeRequest(false))
				br := bufio.NewReader(client)
				_, err := http.ReadResponse(br, nil)
				require.NoError(t, err)
				go func() { _, _ = io.WriteString(client, last) }()
				for op := byte(0); op != opClose; {
					op, _ = readFrame(t, br)
				}
				<-said
				for range 3 {
					_, err = io.WriteString(client, ping("are you there?"))
					require.NoError(t, err)
				}
				start := time.Now()
				_, err = br.ReadByte()
				require.ErrorIs(t, err, io.EOF, "the server closes the connection")
				require.Equal(t, time.Second, time.Since(start))
			})
		})
	}
}
