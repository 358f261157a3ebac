package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// throttledConn is a connection with a limit of bytes a second in each direction, a KiB at once.
// Zero means no limit.
type throttledConn struct {
	net.Conn
	rate, takes int
}

func (n *throttledConn) Read(p []byte) (int, error) {
	if n.takes == 0 {
		return n.Conn.Read(p)
	}
	return throttledReader{n.Conn, n.takes}.Read(p)
}

func (n *throttledConn) Write(p []byte) (done int, err error) {
	for done < len(p) && err == nil {
		part := p[done:min(len(p), done+1<<10)]
		if n.rate > 0 {
			time.Sleep(time.Second * time.Duration(len(part)) / time.Duration(n.rate))
		}
		var m int
		m, err = n.Conn.Write(part)
		done += m
	}
	return done, err
}

// overTLS runs a test with a client that is connected to a Manager by TLS, over a connection in
// memory.
func overTLS(
	t *testing.T, o realtime.Options, test func(t *testing.T, rt *realtime.Manager, c *frameClient, wire *throttledConn),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Logger = slog.New(slog.DiscardHandler)
		o.Authenticate, o.Authorize = realtime.InsecureQueryUser, realtime.InsecureAllowAll
		o.AllowedHosts = []string{"site.example"}
		rt := realtime.New(&o)
		f := pipes()
		server := &httptest.Server{Listener: f.Listener, Config: realtime.NewServer("", rt)}
		server.StartTLS()
		defer server.Close()
		defer func() { require.NoError(t, rt.Close()) }()
		far, err := f.dial(context.Background(), "", "")
		require.NoError(t, err)
		wire := &throttledConn{Conn: far}
		secure := tls.Client(wire, &tls.Config{
			InsecureSkipVerify: true, DynamicRecordSizingDisabled: true, // as browsers do
		})
		defer func() { _ = far.Close() }()
		_, err = io.WriteString(secure, handshake("alice"))
		require.NoError(t, err)
		c := &frameClient{Conn: secure, t: t, br: bufio.NewReader(secure)}
		c.readHandshake()
		test(t, rt, c, wire)
	})
}

// Over TLS, no byte is visible before a record of 16 KiB is complete. A client that sends a KiB a
// second stays connected.
func TestSlowSenderOverTLS(t *testing.T) {
	got := make(chan int, 1)
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		got <- len(in.Text)
		return nil, nil
	}}
	overTLS(t, o, func(t *testing.T, _ *realtime.Manager, c *frameClient, wire *throttledConn) {
		end := c.readToEnd()
		wire.rate = 1100
		c.send(chatFrame(xs(64_000)))
		require.Equal(t, 64_000, <-got)
		require.Empty(t, end)
	})
}

// A client that waits for its answers is delayed and stays connected, although over TLS the server
// cannot see without reading whether more has arrived.
func TestClientThatAwaitsAnswersIsKeptOverTLS(t *testing.T) {
	overTLS(t, realtime.Options{Limits: realtime.Limits{InboundRate: 10}}, func(t *testing.T, _ *realtime.Manager, c *frameClient, _ *throttledConn) {
		_, _, err := nextFrame(c.br)
		require.NoError(t, err)
		for range 500 {
			c.send(masked(0x81, "ping"))
			_, payload, err := nextFrame(c.br)
			require.NoError(t, err)
			require.Equal(t, "pong", payload)
		}
	})
}

// A client that does not wait for its answers is ended over TLS as well.
func TestFloodingClientIsEndedOverTLS(t *testing.T) {
	overTLS(t, realtime.Options{Limits: realtime.Limits{InboundRate: 10}}, func(t *testing.T, _ *realtime.Manager, c *frameClient, _ *throttledConn) {
		start, end := time.Now(), c.readToEnd()
		go func() {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, masked(0x81, "ping"))
			}
		}()
		require.Equal(t, realtime.CloseRate, <-end)
		require.InDelta(t, 10, time.Since(start).Seconds(), 1)
	})
}

// A client that reads a KiB a second over TLS stays connected, however long a message takes.
func TestSlowReaderOverTLS(t *testing.T) {
	for name, rate := range map[string]int{"a KiB a second": 1100, "4 KB a second": 4000} {
		t.Run(name, func(t *testing.T) {
			overTLS(t, realtime.Options{}, func(t *testing.T, rt *realtime.Manager, c *frameClient, wire *throttledConn) {
				_, _, err := nextFrame(c.br)
				require.NoError(t, err)
				wire.takes = rate
				for _, size := range []int{100, 200_000, 100} {
					_, err = rt.Send(t.Context(), realtime.ToAll(), note(xs(size)))
					require.NoError(t, err)
				}
				for _, size := range []int{100, 200_000, 100} {
					_, payload, err := nextFrame(c.br)
					require.NoError(t, err)
					require.Contains(t, payload, `"`+xs(size)+`"`)
				}
			})
		})
	}
}

// An incomplete message over TLS ends the connection in the end.
func TestIncompleteMessageOverTLS(t *testing.T) {
	overTLS(t, realtime.Options{}, func(t *testing.T, _ *realtime.Manager, c *frameClient, _ *throttledConn) {
		start, end := time.Now(), c.readToEnd()
		c.send(chatFrame("x")[:10])
		require.Equal(t, realtime.ClosePolicy, <-end)
		require.InDelta(t, 26, time.Since(start).Seconds(), 1)
	})
}
