package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// countingClient is a client that counts what arrives over a network. It acknowledges ten times a
// second.
type countingClient struct {
	far   *realtime.PipeClient
	conn  *realtime.Conn
	route route

	mu     sync.Mutex
	frames int            // state frames
	rooms  map[string]int // state frames, by room
	keys   map[string]int // values, by key
}

// openFar connects a countingClient.
func (b *bed) openFar(route route) *countingClient {
	b.t.Helper()
	transport, far := realtime.Pipe(realtime.V1)
	c := &countingClient{far: far, route: route, rooms: map[string]int{}, keys: map[string]int{}}
	var err error
	c.conn, err = b.Register(b.t.Context(), transport, realtime.Identity{UserID: "far"})
	require.NoError(b.t, err)
	var running sync.WaitGroup
	running.Go(c.read)
	running.Go(c.acknowledge)
	b.t.Cleanup(func() {
		far.Drop()
		running.Wait()
	})
	return c
}

func (c *countingClient) read() {
	for {
		p, _, err := c.far.Read(context.Background())
		if err != nil {
			return
		}
		if c.route.bandwidth > 0 {
			time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.route.bandwidth))
		}
		var m stateFrame
		if json.Unmarshal(p, &m) != nil {
			continue
		}
		if m.Latest != "" || m.Type == "presence" || m.Type == "latest" {
			time.AfterFunc(c.route.delay, func() { c.arrived(&m) })
		}
	}
}

func (c *countingClient) arrived(m *stateFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames++
	c.rooms[m.Room]++
	if m.Latest != "" {
		c.keys[m.Latest]++
	}
}

func (c *countingClient) acknowledge() {
	for acked := 0; c.conn.Context().Err() == nil; time.Sleep(100 * time.Millisecond) {
		c.mu.Lock()
		frames := c.frames
		c.mu.Unlock()
		if frames > acked {
			acked = frames
			seen := fmt.Appendf(nil, `{"type":"seen","frames":%d}`, frames)
			time.AfterFunc(c.route.delay, func() { _ = c.far.Write(seen) })
		}
	}
}

// inRoom returns how many state frames of a room have arrived.
func (c *countingClient) inRoom(room string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms[room]
}

// If values change faster than a client may be given them, it gets some of each key.
func TestEachKeyHasItsTurn(t *testing.T) {
	for name, test := range map[string]struct {
		route      route
		keys, size int
	}{
		"slow link": {route{bandwidth: 400_000}, 100, 2000},
		"fast link": {route{}, 1000, 80},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
				far := b.openFar(test.route)
				b.joinAll(&client{conn: far.conn}, "board")
				for i := range long.Of(100, 200, 600) {
					content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", test.size))
					for key := range test.keys {
						b.mustValue(realtime.ToRoom("board"), fmt.Sprint(key), content)
					}
					time.Sleep(100 * time.Millisecond)
				}
				far.mu.Lock()
				defer far.mu.Unlock()
				require.Len(t, far.keys, test.keys)
				for key, n := range far.keys {
					require.GreaterOrEqual(t, n, long.Of(4, 8, 24), key)
				}
			})
		})
	}
}

// A client learns what happens in a quiet room, whatever happens in its other rooms.
func TestEachRoomHasItsTurn(t *testing.T) {
	ms := time.Millisecond
	for name, test := range map[string]struct {
		route route
		each  time.Duration
		busy  func(b *bed, i int)
	}{
		"a room with many values": {route{}, 100 * ms, func(b *bed, i int) {
			content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 300))
			for key := range 1000 {
				b.mustValue(realtime.ToRoom("room 0"), fmt.Sprint(key), content)
			}
		}},
		"a room with large values": {route{delay: 125 * ms}, 50 * ms, func(b *bed, i int) {
			content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 50<<10))
			b.mustValue(realtime.ToRoom("room 0"), fmt.Sprint(i%16), content)
		}},
		"many rooms": {route{delay: 125 * ms}, 50 * ms, func(b *bed, i int) {
			for room := range 40 {
				b.mustValue(realtime.ToRoom(fmt.Sprint("room ", room)), "k", fmt.Sprint(i))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, showing(), func(t *testing.T, b *bed) {
				other := b.openV1(realtime.Identity{UserID: "other"})
				b.join("hall", other)
				far := b.openFar(test.route)
				require.NoError(t, far.far.Write([]byte(`{"type":"join","room":"hall","presence":true}`)))
				for room := range 40 {
					b.joinAll(&client{conn: far.conn}, fmt.Sprint("room ", room))
				}
				time.Sleep(2 * time.Second)
				before := far.inRoom("hall")
				seconds := long.Of(10, 20, 60)
				for i := range seconds * int(time.Second/test.each) {
					test.busy(b, i)
					if i%int(time.Second/test.each) == 5 {
						require.NoError(t, other.conn.SetInfo(i))
					}
					time.Sleep(test.each)
				}
				time.Sleep(time.Second)
				require.GreaterOrEqual(t, far.inRoom("hall")-before, seconds/2)
			})
		})
	}
}

// A plain client, too, gets the values of a quiet room while another one fills its queue.
func TestEachRoomOfAPlainClientHasItsTurn(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		far := b.stalled("far")
		far.pace(5 * time.Millisecond)
		b.joinAll(far, "board", "hall")
		rounds := long.Of(100, 200, 600)
		for i := range rounds {
			content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 2000))
			for key := range 100 {
				b.mustValue(realtime.ToRoom("board"), fmt.Sprint(key), content)
			}
			b.mustValue(realtime.ToRoom("hall"), "k", `"of the hall"`)
			time.Sleep(100 * time.Millisecond)
		}
		n := strings.Count(strings.Join(far.raw(), ""), "of the hall")
		far.Drop()
		time.Sleep(time.Minute)
		require.Greater(t, n, rounds/4, "every other update is one of the hall")
	})
}

// The values of a room leave most of a send queue to messages.
func TestValuesLeaveRoomForMessages(t *testing.T) {
	for name, slow := range map[string]realtime.SlowPolicy{
		"disconnect": realtime.SlowDisconnect, "drop oldest": realtime.SlowDropOldest,
		"drop newest": realtime.SlowDropNewest,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{Slow: slow}, func(t *testing.T, b *bed) {
				holder := b.openV1(realtime.Identity{UserID: "holder"})
				b.join("board", holder)
				for key := range 1000 {
					b.mustValue(realtime.ToRoom("board"), fmt.Sprint(key), "1")
				}
				transport, end := realtime.Pipe(realtime.V1)
				stuck := b.attach(transport, end, realtime.Identity{UserID: "stuck"})
				for range 2 { // one fills the pipe, and the other one waits to be written
					b.news(realtime.ToConn(stuck.conn.ID()), strings.Repeat("x", 70<<10))
					synctest.Wait()
				}
				b.joinAll(stuck, "board")
				time.Sleep(time.Second)
				for range 700 {
					b.news(realtime.ToRoom("board"), "hi")
				}
				synctest.Wait()
				stuck.unstall()
				time.Sleep(time.Second)
				got := strings.Join(stuck.raw(), "")
				require.Equal(t, 700, strings.Count(got, `"content":"hi"`))
			})
		})
	}
}

// A client that acknowledges nothing gets one update in ten seconds, also if its queue is full now
// and then.
func TestFullQueueIsNoSilence(t *testing.T) {
	o := realtime.Options{Timeouts: realtime.Timeouts{Write: time.Hour, Ping: -1}}
	o.Limits.QueueMessages = 8
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, end := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, end, realtime.Identity{UserID: "slow"})
		slow.pace(10 * time.Millisecond)
		b.joinAll(slow, "board")
		for i := range 600 {
			for key := range 20 {
				content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 2000))
				b.mustValue(realtime.ToRoom("board"), fmt.Sprint(key), content)
			}
			time.Sleep(100 * time.Millisecond)
		}
		n := len(slow.raw())
		slow.Drop()
		time.Sleep(time.Minute)
		require.Less(t, n, 12*20)
		require.Greater(t, n, 12)
	})
}
