package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// dial opens a connection for an attacker. It is closed when the attack is over.
func (w *world) dial() (net.Conn, error) {
	nc, err := w.net.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.sockets = append(w.sockets, nc)
	w.mu.Unlock()
	return nc, nc.SetDeadline(time.Now().Add(2 * patience))
}

func (w *world) mustDial() net.Conn {
	w.t.Helper()
	nc, err := w.dial()
	require.NoError(w.t, err)
	return nc
}

// handshake is a request to open a WebSocket, with additional headers.
func handshake(user string, headers ...string) string {
	return "GET /ws?user_id=" + user + " HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// request sends the bytes of a request and returns the answer.
func (w *world) request(request string) (*http.Response, *frameClient, error) {
	nc, err := w.dial()
	if err != nil {
		return nil, nil, err
	}
	go func() { _, _ = io.WriteString(nc, request) }() // the server may not read all of it
	c := &frameClient{Conn: nc, t: w.t, br: bufio.NewReader(nc)}
	res, err := http.ReadResponse(c.br, nil)
	return res, c, err
}

// readHandshake reads the answer to a handshake.
func (c *frameClient) readHandshake() {
	c.t.Helper()
	c.br = bufio.NewReader(c)
	res, err := http.ReadResponse(c.br, nil)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusSwitchingProtocols, res.StatusCode)
}

// reset ends a connection with a TCP reset, as after a crash of its host.
func reset(nc net.Conn) error {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return nc.Close()
}

// callREST makes a REST call and returns the status and the body of the answer.
func (w *world) callREST(method, path, body string) (int, string) {
	w.t.Helper()
	res, c, err := w.request(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: site.example\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body))
	require.NoError(w.t, err)
	answer, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	_ = c.Close()
	return res.StatusCode, string(answer)
}

// connect opens a WebSocket for an attacker. Only the answer to the handshake is read.
func (w *world) connect(user string, headers ...string) *frameClient {
	w.t.Helper()
	res, c, err := w.request(handshake(user, headers...))
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusSwitchingProtocols, res.StatusCode)
	c.extensions = res.Header.Get("Sec-WebSocket-Extensions")
	return c
}

// send writes bytes unchanged.
func (c *frameClient) send(bytes string) {
	c.t.Helper()
	_, err := io.WriteString(c, bytes)
	require.NoError(c.t, err)
}

// readToEnd reads everything and returns the close code, or 0 if there was none.
func (c *frameClient) readToEnd() <-chan realtime.CloseCode {
	code := make(chan realtime.CloseCode, 1)
	go func() {
		for {
			op, payload, err := nextFrame(c.br)
			if err == nil && op != 0x8 {
				continue
			}
			code <- closeCode(payload)
			_, _ = io.Copy(io.Discard, c.br)
			return
		}
	}()
	return code
}

// requireClosed waits until the server has closed the connection.
func (c *frameClient) requireClosed() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.br)
	network, ok := errors.AsType[net.Error](err)
	require.False(c.t, ok && network.Timeout(), "still open")
}

// chatFrame is a frame with a chat to the room.
func chatFrame(text string) string {
	return masked(0x81, fmt.Sprintf(`{"content":%q,"target":"room"}`, text))
}

// together runs f for 0 to n-1 in a few goroutines, and returns their errors.
func together(n int, f func(i int) error) error {
	const workers = 8
	var turn atomic.Int64
	errs := make(chan error, workers)
	for range workers {
		go func() {
			for {
				i := int(turn.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var err error
	for range workers {
		err = errors.Join(err, <-errs)
	}
	return err
}
