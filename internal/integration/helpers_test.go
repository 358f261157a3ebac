package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// bed is a Manager in a synctest bubble, with clients in memory.
type bed struct {
	*realtime.Manager
	t *testing.T
}

// bubble runs a test in a synctest bubble. Without other options, the log is discarded and every
// request of a client is allowed. At the end, bubble closes the Manager and checks its counters.
func bubble(t *testing.T, o realtime.Options, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, o)
		test(t, b)
		require.NoError(t, b.Close())
		if o.OnRoom != nil { // Close does not wait for it, and a room remains until it has returned
			synctest.Wait()
		}
		requireConserved(t, b.Stats())
	})
}

func newBed(t *testing.T, o realtime.Options) *bed {
	if o.Authorize == nil {
		o.Authorize = realtime.InsecureAllowAll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &bed{realtime.New(&o), t}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// announced returns Options with all notices on.
func announced() realtime.Options {
	return realtime.Options{Show: realtime.ShowMembers, AnnounceUsers: true}
}

// requireConserved checks the counters of a Manager at rest: each frame that was given to a
// connection was written, dropped or lost.
func requireConserved(t *testing.T, s realtime.Stats) {
	t.Helper()
	gone := s.Written + s.DroppedOldest + s.DroppedNewest + s.DroppedNotices + s.DroppedEphemeral + s.Lost
	require.Equal(t, s.Matched, gone, "frames unaccounted for: %+v", s)
	require.Zero(t, s.QueuedBytes, "nothing is queued")
	require.Zero(t, s.Conns)
	require.Zero(t, s.Users)
	require.Zero(t, s.Rooms)
	require.Zero(t, s.Deflating)
}

// client is the far end of a connection. A goroutine reads it.
type client struct {
	*realtime.PipeClient
	t    *testing.T
	conn *realtime.Conn // nil if the connection was refused
	err  error          // of Register

	mu     sync.Mutex
	frames []string
	end    *realtime.CloseError
	resume chan struct{} // closed when the client may read
	pause  time.Duration // between two frames; set before resume is closed
	once   sync.Once
}

// open connects a user and reads.
func (b *bed) open(user string) *client {
	b.t.Helper()
	c := b.dial(user)
	require.NoError(b.t, c.err)
	return c
}

// dial is the same as open, but may fail.
func (b *bed) dial(user string) *client {
	c := b.stalled(user)
	c.unstall()
	return c
}

// unstall makes a stalled client read.
func (c *client) unstall() { c.once.Do(func() { close(c.resume) }) }

// stalled connects a client that does not read until unstall is called.
func (b *bed) stalled(user string) *client {
	transport, far := realtime.Pipe()
	return b.attach(transport, far, realtime.Identity{UserID: user})
}

// openV1 connects a client of realtime.v1.
func (b *bed) openV1(id realtime.Identity) *client {
	b.t.Helper()
	transport, far := realtime.Pipe(realtime.V1)
	c := b.attach(transport, far, id)
	c.unstall()
	require.NoError(b.t, c.err)
	return c
}

func (b *bed) attach(transport realtime.Transport, far *realtime.PipeClient, id realtime.Identity) *client {
	c := &client{PipeClient: far, t: b.t, resume: make(chan struct{})}
	b.t.Cleanup(func() {
		c.Drop()
		c.unstall()
	})
	go c.read()
	c.conn, c.err = b.Register(b.t.Context(), transport, id)
	return c
}

func (c *client) read() {
	<-c.resume
	for {
		frame, _, err := c.Read(context.Background())
		c.mu.Lock()
		if err != nil {
			c.end, _ = errors.AsType[*realtime.CloseError](err)
			c.mu.Unlock()
			return
		}
		c.frames = append(c.frames, string(frame))
		c.mu.Unlock()
		time.Sleep(c.pause)
	}
}

// pace makes a stalled client read, with a pause after each frame.
func (c *client) pace(pause time.Duration) {
	c.pause = pause
	c.unstall()
}

// say sends a chat of the plain protocol.
func (c *client) say(text, target string) {
	c.t.Helper()
	p, err := json.Marshal(map[string]string{"content": text, "target": target})
	require.NoError(c.t, err)
	require.NoError(c.t, c.Write(p))
}

// raw waits until everything is at rest and returns the frames since the last call.
func (c *client) raw() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames = nil
	return frames
}

// got is the same as raw, in a short notation: "welcome", "alice joined", "alice left", "alice in
// lobby", "alice out lobby", "alice: text", "pong", or type and content.
func (c *client) got() []string {
	c.t.Helper()
	short := []string{}
	for _, frame := range c.raw() {
		short = append(short, shorthand(c.t, frame))
	}
	return short
}

// discard forgets the frames that were received so far.
func (c *client) discard() { c.raw() }

// ended waits until everything is at rest and returns how the connection ended.
func (c *client) ended() *realtime.CloseError {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// requireEnd checks the close code that the client received.
func (c *client) requireEnd(code realtime.CloseCode) {
	c.t.Helper()
	end := c.ended()
	require.NotNil(c.t, end, "still open")
	require.Equal(c.t, code, end.Code, "%v", end)
}

type plainFrame struct {
	Type    string          `json:"message_type"`
	Sender  *string         `json:"sender_id"`
	Content json.RawMessage `json:"content"`
	Time    float64         `json:"timestamp"`
}

type plainContent struct {
	Type    string `json:"type"`
	Room    string `json:"room_id"`
	Content string `json:"content"`
}

func shorthand(t *testing.T, frame string) string {
	t.Helper()
	if frame == "pong" {
		return frame
	}
	var f plainFrame
	require.NoError(t, json.Unmarshal([]byte(frame), &f), "%q", frame)
	sender := "nobody"
	if f.Sender != nil {
		sender = *f.Sender
	}
	var c plainContent
	_ = json.Unmarshal(f.Content, &c)
	switch {
	case f.Type == "welcome":
		return f.Type
	case f.Type == "userjoined":
		return sender + " joined"
	case f.Type == "userleft":
		return sender + " left"
	case c.Type == "room_join":
		return sender + " in " + c.Room
	case c.Type == "room_leave":
		return sender + " out " + c.Room
	case f.Type == "chat" && c.Type == "chat_message":
		return sender + ": " + c.Content
	}
	return strings.TrimSpace(f.Type + " " + string(f.Content))
}

// join puts clients into a room and discards the notices.
func (b *bed) join(room string, clients ...*client) {
	b.t.Helper()
	for _, c := range clients {
		joined, err := b.Join(b.t.Context(), c.conn.ID(), room)
		require.NoError(b.t, err)
		require.True(b.t, joined)
	}
	for _, c := range clients {
		c.discard()
	}
}

// news sends a message of the application.
func (b *bed) news(to realtime.Target, word string) realtime.Result {
	b.t.Helper()
	res, err := b.Send(b.t.Context(), to, realtime.Message{
		Type: "news", Content: json.RawMessage(`"` + word + `"`),
	})
	require.NoError(b.t, err)
	return res
}

func contextCause(ctx context.Context) error { return context.Cause(ctx) }

// diary records lines of handlers. The zero value is empty.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// read waits until everything is at rest and returns the lines since the last call.
func (d *diary) read() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

func (b *bed) joinAll(c *client, rooms ...string) {
	for _, room := range rooms {
		_, err := b.Join(b.t.Context(), c.conn.ID(), room)
		require.NoError(b.t, err)
	}
}

func (b *bed) members(room string) []string {
	users, err := b.Room(room).Users(b.t.Context())
	require.NoError(b.t, err)
	return users
}

// connsOf returns the connections of a user.
func (b *bed) connsOf(user string) (conns []*realtime.Conn) {
	for c := range b.User(user).LocalConns() {
		conns = append(conns, c)
	}
	return conns
}

func second[T any](_ T, err error) error { return err }

// request sends a request and returns the frames that follow, with T in place of each time.
func (c *client) request(request string) []string {
	c.t.Helper()
	require.NoError(c.t, c.Write([]byte(request)))
	frames := append([]string{}, c.raw()...)
	for i := range frames {
		frames[i] = timestamp.ReplaceAllString(frames[i], `"timestamp":T`)
	}
	return frames
}

var timestamp = regexp.MustCompile(`"timestamp":\d+(\.\d{3})?`)
