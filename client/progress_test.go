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

// crawl is a connection with so many bytes a second in each direction, in portions of 512; 0: as
// many as there are.
type crawl struct {
	net.Conn
	down, up int
}

func (c *crawl) Read(p []byte) (int, error) {
	if c.down == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), 512)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.down))
	return n, err
}

func (c *crawl) Write(p []byte) (n int, err error) {
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

// What counts is that something flows, not how long a message takes.
func TestSlowLinks(t *testing.T) {
	large := strings.Repeat("x", 32_000)
	for name, link := range map[string]crawl{"down": {down: 800}, "up": {up: 800}} {
		t.Run(name, func(t *testing.T) {
			served(t, play(t, func(s *stage, _ int) {
				if link.down > 0 {
					s.chats("m", large)
				}
				s.lasts()
			}), func(t *testing.T, w *world) {
				w.setWrap(func(conn net.Conn) net.Conn {
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
					require.Len(t, alice.got(), 1)
				}
				require.Greater(t, time.Since(began), 39*time.Second)
				require.Equal(t, 1, w.dialled())
			})
		})
	}
}

// A frame of which nothing goes any more ends its connection, and small ones are no sign of life.
func TestStuckWrites(t *testing.T) {
	for name, size := range map[string]int{"large": 30_000, "small": 10} {
		t.Run(name, func(t *testing.T) {
			served(t, play(t, func(s *stage, n int) {
				if n > 1 {
					s.lasts()
				}
				time.Sleep(time.Hour) // it does not read
			}), func(t *testing.T, w *world) {
				o := client.DialOptions{PingInterval: -1}
				if size == 10 { // the kernel takes what it can get
					w.setWrap(func(conn net.Conn) net.Conn { return &gapFound{Conn: conn} })
					o.PingInterval = 0
				}
				alice := w.dialWith("alice", o)
				synctest.Wait()
				w.setWrap(nil)
				began := time.Now()
				for range 10 {
					go func() {
						msg := realtime.Message{Content: []byte(`"` + strings.Repeat("x", size) + `"`)}
						_ = alice.Send(t.Context(), realtime.ToAll(), msg)
					}()
					time.Sleep(time.Second)
				}
				alice.back()
				require.Less(t, time.Since(began), 40*time.Second)
			})
		})
	}
}

// gapFound takes everything behind the handshake and passes on nothing.
type gapFound struct {
	net.Conn
	writes int
}

func (h *gapFound) Write(p []byte) (int, error) {
	if h.writes++; h.writes > 1 {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// A client that reads 4 KB a second stays connected, though it is sent more.
func TestSteadySlowReader(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"drops":      {Slow: realtime.SlowDropOldest},
		"catches up": {History: realtime.Retention{Messages: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, w *world) {
				w.setWrap(func(conn net.Conn) net.Conn { return &crawl{Conn: conn, down: 4000} })
				alice := w.dial("alice")
				alice.join("lobby")
				for i := range 1500 {
					size := 4000
					if i%100 == 0 {
						size = 60_000 // which takes 15 s
					}
					_, err := w.rt.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{
						Content: []byte(`"` + strings.Repeat("x", size) + `"`),
					})
					require.NoError(t, err)
					time.Sleep(200 * time.Millisecond)
				}
				require.Equal(t, 1, w.dialled())
				require.Greater(t, len(alice.got()), 40)
			})
		})
	}
}
