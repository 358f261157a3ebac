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

// reach opens a connection for an attacker. It is closed when the attack is over.
func (a *arena) reach() (net.Conn, error) {
	nc, err := a.field.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.sockets = append(a.sockets, nc)
	a.mu.Unlock()
	return nc, nc.SetDeadline(time.Now().Add(2 * patience))
}

func (a *arena) socket() net.Conn {
	a.t.Helper()
	nc, err := a.reach()
	require.NoError(a.t, err)
	return nc
}

// handshake is a request to open a WebSocket, with more headers.
func handshake(user string, headers ...string) string {
	return "GET /ws?user_id=" + user + " HTTP/1.1\r\nHost: arena\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// ask sends a request as it is and returns the answer.
func (a *arena) ask(request string) (*http.Response, *wireClient, error) {
	nc, err := a.reach()
	if err != nil {
		return nil, nil, err
	}
	go func() { _, _ = io.WriteString(nc, request) }() // not all of it may be taken
	c := &wireClient{Conn: nc, t: a.t, br: bufio.NewReader(nc)}
	res, err := http.ReadResponse(c.br, nil)
	return res, c, err
}

// answered reads the answer to a handshake.
func (c *wireClient) answered() {
	c.t.Helper()
	c.br = bufio.NewReader(c)
	res, err := http.ReadResponse(c.br, nil)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusSwitchingProtocols, res.StatusCode)
}

// reset ends a connection as if its host had crashed and come back.
func reset(nc net.Conn) error {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return nc.Close()
}

// rest makes a REST call and returns status and body of the answer.
func (a *arena) rest(method, path, body string) (int, string) {
	a.t.Helper()
	res, c, err := a.ask(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: arena\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body))
	require.NoError(a.t, err)
	answer, err := io.ReadAll(res.Body)
	require.NoError(a.t, err)
	_ = c.Close()
	return res.StatusCode, string(answer)
}

// enter opens a WebSocket for an attacker, who has read nothing but the answer.
func (a *arena) enter(user string, headers ...string) *wireClient {
	a.t.Helper()
	res, c, err := a.ask(handshake(user, headers...))
	require.NoError(a.t, err)
	require.Equal(a.t, http.StatusSwitchingProtocols, res.StatusCode)
	c.extensions = res.Header.Get("Sec-WebSocket-Extensions")
	return c
}

// send writes bytes as they are.
func (c *wireClient) send(bytes string) {
	c.t.Helper()
	_, err := io.WriteString(c, bytes)
	require.NoError(c.t, err)
}

// fate reads all that comes, and then tells the close code, 0 if there was none.
func (c *wireClient) fate() <-chan realtime.CloseCode {
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

// hungUp waits until the server has closed the connection.
func (c *wireClient) hungUp() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.br)
	network, ok := errors.AsType[net.Error](err)
	require.False(c.t, ok && network.Timeout(), "still open")
}

// chatFrame is a chat to the room.
func chatFrame(text string) string {
	return masked(0x81, fmt.Sprintf(`{"content":%q,"target":"room"}`, text))
}

// together runs f for 0 to n-1 in a few goroutines, and returns what went wrong.
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
