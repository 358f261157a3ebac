package state

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

// testWire is a wire in memory. While it is stalled, Write blocks.
type testWire struct {
	mu      sync.Mutex
	changed sync.Cond
	stalled bool
	closed  bool
	frames  []*sendqueue.Frame // written and not taken
}

func newTestWire() *testWire {
	w := &testWire{}
	w.changed.L = &w.mu
	return w
}

func (w *testWire) Write(batch []*sendqueue.Frame, m sendqueue.Meter) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.stalled && !w.closed {
		w.changed.Wait()
	}
	if w.closed {
		return os.ErrClosed
	}
	n := 0
	for _, f := range batch {
		n += f.Len()
	}
	w.frames = append(w.frames, batch...)
	m.Took(n, false)
	return nil
}

func (*testWire) SetWriteDeadline(time.Time) error { return nil }

func (*testWire) CloseWrite() error { return nil }

func (w *testWire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
	return nil
}

func (w *testWire) stall(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = on
	w.changed.Broadcast()
}

// take returns the frames that were written since the last call.
func (w *testWire) take() []*sendqueue.Frame {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	frames := w.frames
	w.frames = nil
	return frames
}

// rig is a room under test, in a bubble.
type rig struct {
	*Room
	t        *testing.T
	mu       sync.Mutex // of the room
	cfg      Config
	queues   sendqueue.Config
	totals   sendqueue.Totals
	speakers wire.Speakers
	wg       sync.WaitGroup
	pushed   atomic.Int64 // frames
	clients  []*testClient
}

func newRig(t *testing.T, show Show) *rig {
	r := &rig{t: t}
	r.queues = sendqueue.Config{Go: r.wg.Go, Totals: &r.totals, WriteTimeout: 1000 * time.Hour}
	r.cfg = Config{
		Wheel: timerwheel.New(r.wg.Go), Go: r.wg.Go, Budget: &r.totals.Budget, Speakers: &r.speakers,
		Compressor: wire.NewCompressor(200, &r.speakers, func() {}),
		Stopped:    func() bool { return false },

		QueueMessages: sendqueue.DefaultMaxMessages, QueueBytes: sendqueue.DefaultMaxBytes,
		Pushed: func(frames int) { r.pushed.Add(int64(frames)) },
	}
	r.Room = NewRoom(&r.cfg, &r.mu, "hall", show)
	return r
}

// close ends everything, and requires that the budget has everything back.
func (r *rig) close() {
	r.do(r.Close)
	for _, c := range r.clients {
		c.queue.Kill()
	}
	synctest.Wait()
	r.cfg.Wheel.Close()
	r.wg.Wait()
	if !r.t.Failed() {
		require.Zero(r.t, r.totals.Budget.Total())
	}
}

// do calls f with the lock of the room.
func (r *rig) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// value gives a key a value, or removes it if the content is null.
func (r *rig) value(key, content string) (err error) {
	r.do(func() {
		err = r.SetValue(r.cfg.Value("hall", &broker.Message{Type: "t", Latest: key, Content: []byte(content)}, Stamp{}))
	})
	return err
}

// counted calls f, which changes the number of entries, after the number has changed.
func (r *rig) counted(conns int, f func()) {
	r.do(func() {
		r.SetCount(conns, conns)
		f()
	})
}

// add adds n entries, and returns the last one.
func (r *rig) add(n int, state []byte) (e *Entry) {
	for range n {
		r.counted(r.presence.conns+1, func() { e = r.AddEntry("alice", "", nil, state) })
	}
	return e
}

// drop removes an entry.
func (r *rig) drop(e *Entry) { r.counted(r.presence.conns-1, e.Remove) }

// testClient is a client that folds what it is given by the rules of docs/PROTOCOL.md.
type testClient struct {
	t     *testing.T
	wire  *testWire
	queue *sendqueue.Queue
	pace  *Pace
	*Reader
	plain bool
	mute  bool // it never says what it has seen
	// mustForget is whether it has named a version that the server does not know, and has not got
	// the keys yet.
	mustForget bool

	version      uint64
	show         string
	users, conns int
	entries      map[string]wire.Entry
	values       map[string]string
	valueVersion uint64 // that it was told since the last frame with keys
	newest       map[string]string

	frames, snapshots, counts, keyFrames, versionFrames, removals, deflated int
	bytes                                                                   int
}

// join adds a reader with a connection of its own, which begins. If not nil, begin is called before,
// with the lock of the room. Every second client takes compressed frames.
func (r *rig) join(plain bool, begin func(c *testClient)) *testClient {
	p := wire.ProtoV1
	if plain {
		p = wire.ProtoPlain
	}
	deflates := len(r.clients)%2 == 1
	r.speakers.Add(p, deflates, 1)
	c := &testClient{
		t: r.t, wire: newTestWire(), plain: plain, entries: map[string]wire.Entry{},
		values: map[string]string{}, newest: map[string]string{},
	}
	c.queue = sendqueue.New(&r.queues, c.wire, func(err error) { panic(err) })
	c.queue.Start()
	c.pace = NewPace(&r.cfg, c.queue, p, deflates)
	r.clients = append(r.clients, c)
	r.do(func() {
		c.Reader = r.Add(c.pace)
		if begin != nil {
			begin(c)
		}
		c.Begin()
	})
	return c
}

// watcher adds a reader that watches.
func (r *rig) watcher() *testClient {
	return r.join(false, func(c *testClient) { c.Watch(0) })
}

// receive folds what has arrived.
func (c *testClient) receive() *testClient {
	c.t.Helper()
	for _, f := range c.wire.take() {
		c.frames++
		c.bytes += f.Len()
		c.fold(c.plainText(f.Payload()))
	}
	return c
}

// plainText returns the text of a frame, which may be compressed, RFC 7692 section 7.2.2.
func (c *testClient) plainText(payload []byte) []byte {
	if payload[0] == '{' {
		return payload
	}
	require.True(c.t, c.pace.deflates)
	c.deflated++
	r := io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	text, err := io.ReadAll(flate.NewReader(r))
	require.NoError(c.t, err)
	return text
}

// see also says what has arrived.
func (c *testClient) see() *testClient {
	c.t.Helper()
	c.receive()
	if !c.mute {
		c.pace.Seen(uint64(c.frames))
	}
	return c
}

type jsonEntry struct {
	Key, User   string
	Info, State json.RawMessage
	Away        bool
}

// anyFrame is any state frame.
type anyFrame struct {
	Type    string `json:"message_type"`
	Room    string
	Prev    uint64
	Version uint64 `json:"ver"`
	Show    string
	Users   int `json:"user_count"`
	Conns   int `json:"connection_count"`
	Members map[string]*jsonEntry
	Latest  string
	Keys    []string
	Content json.RawMessage
}

func (c *testClient) fold(payload []byte) {
	c.t.Helper()
	var f anyFrame
	require.NoError(c.t, json.Unmarshal(payload, &f), "%q", payload)
	if c.plain { // its frames have no key
		var v struct{ Key string }
		require.NoError(c.t, json.Unmarshal(f.Content, &v))
		require.NotEmpty(c.t, v.Key, "a plain client gets values only: %q", payload)
		c.value(v.Key, string(f.Content))
		return
	}
	require.Equal(c.t, "hall", f.Room)
	switch {
	case f.Type == "presence":
		c.presenceFrame(&f)
	case f.Type == "latest" && f.Version > 0:
		require.Greater(c.t, f.Version, c.valueVersion)
		require.Nil(c.t, f.Keys)
		c.valueVersion = f.Version
		c.versionFrames++
	case f.Type == "latest":
		c.keyFrames++
		c.mustForget = false
		c.valueVersion = 0
		old := c.values
		c.values = map[string]string{}
		for _, key := range f.Keys {
			if v, ok := old[key]; ok {
				c.values[key] = v
			}
		}
	default:
		require.False(c.t, c.mustForget, "the keys come first")
		require.Zero(c.t, f.Version)
		c.value(f.Latest, string(f.Content))
	}
}

func (c *testClient) value(key, content string) {
	if content == "null" {
		c.removals++
		delete(c.values, key)
		return
	}
	require.GreaterOrEqual(c.t, content, c.newest[key], "an older value") // see numbered
	c.values[key], c.newest[key] = content, content
}

// numbered is the content of value n. A later one is greater as a string.
func numbered(key string, n, size int) string {
	return fmt.Sprintf(`{"n":"%08d","key":%q,"more":"%0*d"}`, n, key, size, 0)
}

func (c *testClient) presenceFrame(f *anyFrame) {
	if f.Prev == 0 {
		c.snapshots++
		c.show, c.entries = f.Show, map[string]wire.Entry{}
	} else {
		require.Equal(c.t, c.version, f.Prev, "a difference for another version")
		require.Equal(c.t, "members", c.show)
		require.Greater(c.t, f.Version, c.version)
	}
	if f.Show == "count" {
		c.counts++
		require.Empty(c.t, f.Members)
	}
	for key, e := range f.Members {
		if e == nil {
			require.NotZero(c.t, f.Prev)
			delete(c.entries, key) // perhaps it came and went since the last frame
			continue
		}
		c.entries[key] = wire.Entry{
			Key: key, User: e.User, Info: e.Info, State: e.State, Away: e.Away,
		}
	}
	c.version, c.users, c.conns = f.Version, f.Users, f.Conns
}
