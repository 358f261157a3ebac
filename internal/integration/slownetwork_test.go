package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// throttledReader reads a number of bytes a second, a KiB at once.
type throttledReader struct {
	io.Reader
	rate int
}

func (s throttledReader) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p[:min(len(p), 1<<10)])
	time.Sleep(time.Second * time.Duration(n) / time.Duration(s.rate))
	return n, err
}

// A client that reads 4 KB a second stays connected, although more is sent to it and it does not
// answer pings.
func TestSteadySlowReaderStays(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"drops":      {Slow: realtime.SlowDropOldest},
		"catches up": {History: realtime.Retention{Messages: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o.Timeouts.Stale = 90 * time.Second
				w := newWorld(t, o, pipes())
				c := w.connect("turtle@cellar")
				require.NoError(t, c.SetReadDeadline(time.Time{}))
				var heard atomic.Int64
				end := make(chan error, 1)
				go func() {
					for r := (throttledReader{c.Conn, 4000}); ; {
						n, err := io.CopyN(io.Discard, r, 1000)
						if heard.Add(n); err != nil {
							end <- err
							return
						}
					}
				}()
				for i := range 1500 {
					size := 4000
					if i%25 == 0 {
						size = 100_000 // which takes 25 s
					}
					_, err := w.rt.Send(t.Context(), realtime.ToRoom("cellar"), note(xs(size)))
					require.NoError(t, err)
					time.Sleep(200 * time.Millisecond)
				}
				require.Empty(t, end)
				require.InDelta(t, 300*4000, heard.Load(), 20_000)
				w.finish()
			})
		})
	}
}

// The time for a pong includes the time for the queue before it at 1 KiB a second, also if the
// buffers of the network take the queue at once.
func TestPongTimeoutWithALongQueue(t *testing.T) {
	for name, bytes := range map[string]int{"little": 1000, "a lot": 60_000} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
				slow := b.stalled("slow") // its pipe takes the message
				time.Sleep(24 * time.Second)
				b.news(realtime.ToAll(), xs(bytes))
				start := time.Now()
				<-slow.conn.Context().Done()
				want := 11 // from the ping on
				if bytes > 4<<10 {
					want += bytes/1024 - 1
				}
				require.InDelta(t, want, time.Since(start).Seconds(), 1)
			})
		})
	}
}

// A client that reads too slowly receives all messages in order, or some of them and then the code
// CloseSlow.
func TestVerySlowReaderGetsACloseCode(t *testing.T) {
	if plainIsDirect == 0 {
		t.Skip("the portable code cannot send a close code before the megabytes in the kernel")
	}
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
		nc, br := s.rawDial(t, "slow", "")
		if tcp, ok := nc.(*net.TCPConn); ok {
			require.NoError(t, tcp.SetReadBuffer(4<<10))
		}
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(2*time.Minute)))
		_, _ = readFrame(t, br)
		large := xs(32 << 10)
		for i := range 1700 {
			word := fmt.Sprint(i, " ")
			if i < 200 {
				word += large
			}
			_, err := s.rt.Send(t.Context(), realtime.ToAll(), note(word))
			require.NoError(t, err)
		}
		slow := bufio.NewReader(throttledReader{br, 200_000})
		for next := range 1700 {
			op, payload := readFrame(t, slow)
			if op == 0x8 {
				require.Equal(t, realtime.CloseSlow, closeCode(payload))
				return
			}
			require.Contains(t, payload, fmt.Sprintf(`"%d `, next))
		}
	})
}
