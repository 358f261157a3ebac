package client_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// slowConn is a connection with a limited number of bytes per second in each direction, in portions
// of 512 bytes. 0 means unlimited.
type slowConn struct {
	net.Conn
	down, up int
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.down == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), 512)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.down))
	return n, err
}

func (c *slowConn) Write(p []byte) (n int, err error) {
	if c.up == 0 {
		return c.Conn.Write(p)
	}
	for n < len(p) && err == nil {
		var m int
		m, err = c.Conn.Write(p[n:min(len(p), n+512)])
		n += m
		time.Sleep(time.Duration(m) * time.Second / time.Duration(c.up))
	}
	return n, err
}

// TestSlowConnections tests that a connection lasts while data flows, however long one message
// takes.
func TestSlowConnections(t *testing.T) {
	large := strings.Repeat("x", 32_000)
	for name, link := range map[string]slowConn{"down": {down: 800}, "up": {up: 800}} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scripted(t, func(s *script, _ int) {
				if link.down > 0 {
					s.sendChat("m", large)
				}
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				w.wrapConns(func(conn net.Conn) net.Conn {
					slow := link
					slow.Conn = conn
					return &slow
				})
				alice := w.dial("alice")
				began := time.Now()
				if link.up > 0 {
					msg := realtime.Message{Content: []byte(`"` + large + `"`)}
					require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), msg))
				} else {
					time.Sleep(50 * time.Second)
					require.Len(t, alice.received(), 1)
				}
				require.Greater(t, time.Since(began), 39*time.Second)
				require.Equal(t, 1, w.dialCount())
			})
		})
	}
}

// TestStuckWrites tests that a connection ends if no byte of a frame leaves any more, and that
// small writes are no sign of life.
func TestStuckWrites(t *testing.T) {
	for name, size := range map[string]int{"large": 30_000, "small": 10} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scripted(t, func(s *script, n int) {
				if n > 1 {
					s.serveUntilClosed()
				}
				time.Sleep(time.Hour) // the server does not read
			}), func(t *testing.T, w *testEnv) {
				o := client.DialOptions{PingInterval: -1}
				if size == 10 { // the kernel buffers small frames
					w.wrapConns(func(conn net.Conn) net.Conn { return &blackHoleConn{Conn: conn} })
					o.PingInterval = 0
				}
				alice := w.dialWith("alice", o)
				synctest.Wait()
				w.wrapConns(nil)
				began := time.Now()
				for range 10 {
					go func() {
						msg := realtime.Message{Content: []byte(`"` + strings.Repeat("x", size) + `"`)}
						_ = alice.Send(t.Context(), realtime.ToAll(), msg)
					}()
					time.Sleep(time.Second)
				}
				alice.awaitReconnect()
				require.Less(t, time.Since(began), 40*time.Second)
			})
		})
	}
}

// blackHoleConn accepts everything after the handshake and discards it.
type blackHoleConn struct {
	net.Conn
	writes int
}

func (h *blackHoleConn) Write(p []byte) (int, error) {
	if h.writes++; h.writes > 1 {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// TestSteadySlowReader tests that a client that reads 4 KB per second stays connected although more
// is sent.
func TestSteadySlowReader(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"drops":      {Slow: realtime.SlowDropOldest},
		"catches up": {History: realtime.Retention{Messages: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			withManager(t, o, func(t *testing.T, w *testEnv) {
				w.wrapConns(func(conn net.Conn) net.Conn { return &slowConn{Conn: conn, down: 4000} })
				alice := w.dial("alice")
				alice.join("lobby")
				for i := range 1500 {
					size := 4000
					if i%100 == 0 {
						size = 60_000 // takes 15 s
					}
					_, err := w.rt.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{
						Content: []byte(`"` + strings.Repeat("x", size) + `"`),
					})
					require.NoError(t, err)
					time.Sleep(200 * time.Millisecond)
				}
				require.Equal(t, 1, w.dialCount())
				require.Greater(t, len(alice.received()), 40)
			})
		})
	}
}
