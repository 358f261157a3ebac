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

// scriptedConn is a net.Conn in memory. Its peer says what is in it as soon as he has been
// answered, is heard a few bytes at a time, and says no more.
type scriptedConn struct {
	in   string
	step int // bytes of a Read; 0: he says nothing and stays

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

// written returns what was written until the connection was closed, and whether it was.
func (c *scriptedConn) written() (out string, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String(), c.closed
}

func (*scriptedConn) LocalAddr() net.Addr              { return nil }
func (*scriptedConn) RemoteAddr() net.Addr             { return nil }
func (*scriptedConn) SetDeadline(time.Time) error      { return nil }
func (*scriptedConn) SetReadDeadline(time.Time) error  { return nil } // it always ends
func (*scriptedConn) SetWriteDeadline(time.Time) error { return nil } // and never waits

// hijackable is an http.ResponseWriter that can be hijacked.
type hijackable struct {
	*httptest.ResponseRecorder
	conn  net.Conn
	early string // what the server has read of the connection already
}

func (s hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	br := bufio.NewReader(strings.NewReader(s.early))
	_, err := br.Peek(len(s.early))
	return s.conn, bufio.NewReadWriter(br, bufio.NewWriter(s.conn)), err
}

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

// upgradeRequest is alice's handshake.
func upgradeRequest(deflate bool) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://site.example/ws?user_id=alice", nil)
	r.RemoteAddr = "10.0.0.1:1" // she may come as often as she likes
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", sampleKey)
	if deflate {
		r.Header.Set("Sec-WebSocket-Extensions", browserOffer)
	}
	return r
}

// A client that says something as soon as the connection is open, and goodbye at once, is
// heard.
func TestMessageAndCloseAtOnce(t *testing.T) {
	const visits = 2000
	heard := 0
	o := realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
			heard++
			return nil
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

// halfCloser is a connection that can be closed by halves.
type halfCloser struct {
	net.Conn
	said chan struct{} // closed with the half that is written
}

func (h halfCloser) CloseWrite() error {
	close(h.said)
	return nil
}

// RFC 6455 section 7.1.1: whoever has said goodbye may not have read all of what was said to
// him before, and loses it if the connection is closed while he still says something.
func TestServerReadsAfterTheCloseFrame(t *testing.T) {
	for name, last := range map[string]string{
		"goodbye":  closeFrame(1000, ""),
		"nonsense": say("hi") + "\x81\x01x", // not masked
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
