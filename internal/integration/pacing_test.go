package integration_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// route is the way to a client, in virtual time.
type route struct {
	delay     time.Duration // one way
	bandwidth int           // to the client, in bytes a second; 0: no limit
}

// distantClient is a client that gets the values of a key over a network, acknowledges frames by the
// rules of docs/PROTOCOL.md, and takes some time for each value that it shows.
type distantClient struct {
	t       *testing.T
	far     *realtime.PipeClient
	route   route
	handles time.Duration
	silent  bool // it acknowledges nothing

	mu      sync.Mutex
	frames  int
	acked   int
	lastAck time.Time
	timer   *time.Timer
	newest  time.Time // sending time of the newest value; zero: shown
	busy    bool
	ages    []time.Duration
	shown   []time.Time
}

func (c *distantClient) read() {
	for {
		p, _, err := c.far.Read(context.Background())
		if err != nil {
			return
		}
		if c.route.bandwidth > 0 {
			time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.route.bandwidth))
		}
		time.AfterFunc(c.route.delay, func() { c.arrived(p) })
	}
}

func (c *distantClient) arrived(p []byte) {
	var m struct {
		Type    string `json:"message_type"`
		Latest  string
		Content string
	}
	if json.Unmarshal(p, &m) != nil || m.Latest == "" && m.Type != "latest" {
		return
	}
	if m.Type == "latest" { // a version
		c.mu.Lock()
		c.frames++
		c.mu.Unlock()
		return
	}
	stamp, _, _ := strings.Cut(m.Content, " ")
	sent, err := time.Parse(time.RFC3339Nano, stamp)
	require.NoError(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames++; !c.silent {
		c.acknowledge()
	}
	if sent.After(c.newest) {
		c.newest = sent
	}
	if !c.busy {
		c.show()
	}
}

// acknowledge requires that c.mu is held.
func (c *distantClient) acknowledge() {
	wait := time.Second
	if c.frames-c.acked >= 4 {
		wait = max(0, time.Until(c.lastAck.Add(100*time.Millisecond)))
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.acked == c.frames {
			return
		}
		c.acked, c.lastAck = c.frames, time.Now()
		seen := fmt.Appendf(nil, `{"type":"seen","frames":%d}`, c.frames)
		time.AfterFunc(c.route.delay, func() { _ = c.far.Write(seen) })
	})
}

// show calls the handler with the newest value. c.mu is held.
func (c *distantClient) show() {
	if c.newest.IsZero() {
		return
	}
	c.ages = append(c.ages, time.Since(c.newest))
	c.shown = append(c.shown, time.Now())
	c.newest, c.busy = time.Time{}, true
	time.AfterFunc(c.handles, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy = false
		c.show()
	})
}

// TestPacing sends a value of 200 bytes each 33 ms to clients near and far, fast and slow. A fast
// client gets each of them, and a slow one is not further behind after a minute than after a second.
func TestPacing(t *testing.T) {
	minute := long.Of(20*time.Second, time.Minute, time.Minute)
	ms := time.Millisecond
	for _, test := range []struct {
		name    string
		route   route
		handles time.Duration
		p50     time.Duration // at most
		rate    float64       // at least, values a second
	}{
		{"near", route{delay: 0}, 0, 20 * ms, 29},
		{"RTT 100 ms", route{delay: 50 * ms}, 0, 70 * ms, 29},
		{"RTT 250 ms", route{delay: 125 * ms}, 0, 145 * ms, 29},
		{"near, handles 10 a second", route{delay: 0}, 100 * ms, 140 * ms, 9.5},
		{"RTT 50 ms, handles 10 a second", route{delay: 25 * ms}, 100 * ms, 200 * ms, 9.5},
		{"RTT 250 ms, handles 10 a second", route{delay: 125 * ms}, 100 * ms, 350 * ms, 9.5},
		{"RTT 50 ms, link of 2 KB/s", route{delay: 25 * ms, bandwidth: 2000}, 0, 2000 * ms, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
				transport, far := realtime.Pipe(realtime.V1)
				conn, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
				require.NoError(t, err)
				c := &distantClient{t: t, far: far, route: test.route, handles: test.handles}
				go c.read()
				_, err = b.Join(t.Context(), conn.ID(), "game")
				require.NoError(t, err)
				began := time.Now()
				for time.Since(began) < minute {
					content := fmt.Sprintf("%q", time.Now().Format(time.RFC3339Nano)+strings.Repeat(" ", 40))
					_, err := b.Send(t.Context(), realtime.ToRoom("game"), realtime.Message{
						Type: "view", Latest: "view", Content: json.RawMessage(content),
					})
					require.NoError(t, err)
					time.Sleep(33 * ms)
				}
				c.requirePace(test.p50, test.rate)
				_ = conn.Close(realtime.CloseNormal, "")
				far.Drop()
				time.Sleep(time.Minute)
			})
		})
	}
}

// requirePace requires that the second half of the values was shown in time.
func (c *distantClient) requirePace(maxP50 time.Duration, minRate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	half := len(c.ages) / 2
	ages := slices.Sorted(slices.Values(c.ages[half:]))
	over := c.shown[len(c.shown)-1].Sub(c.shown[half])
	rate := float64(len(c.shown)-1-half) / over.Seconds()
	p50, p99 := ages[len(ages)/2], ages[len(ages)*99/100]
	c.t.Logf("age p50 %v, p99 %v, %.1f values/s", p50, p99, rate)
	require.LessOrEqual(c.t, p50, maxP50)
	require.LessOrEqual(c.t, p99, cmp.Or(2*maxP50, time.Second))
	require.GreaterOrEqual(c.t, rate, minRate)
}
