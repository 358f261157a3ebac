package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// checkedClient is a client that checks what it receives: each frame is UTF-8 and JSON, and the
// numbers of each sender have no gap and no repetition.
type checkedClient struct {
	ws        *websocket.Conn
	done      chan struct{} // closed when it stops to read
	joinsLate bool          // the senders may have started before it connected

	mu      sync.Mutex
	changed chan struct{}  // closed with the next frame
	numbers map[string]int // the next expected number, by sender
	texts   []string       // messages without a number, as "type sender: text"
	err     error
}

// checkedClient connects a client that checks what it receives.
func (w *world) checkedClient(user string, late bool) *checkedClient {
	w.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: w.net.dial}}
	ws, _, err := websocket.Dial(w.t.Context(), "http://site.example/ws?user_id="+user,
		&websocket.DialOptions{HTTPClient: &client})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	_, p, err := ws.Read(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, "welcome", shorthand(w.t, string(p)))
	c := &checkedClient{
		ws: ws, joinsLate: late,
		done: make(chan struct{}), changed: make(chan struct{}), numbers: map[string]int{},
	}
	go c.read()
	return c
}

func (c *checkedClient) read() {
	defer close(c.done)
	for {
		_, p, err := c.ws.Read(context.Background())
		c.mu.Lock()
		if err == nil {
			err = c.check(p)
		}
		c.err = err
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// check checks one frame and records it. c.mu is held.
func (c *checkedClient) check(p []byte) error {
	if string(p) == "pong" {
		c.texts = append(c.texts, "pong")
		return nil
	}
	var f plainFrame
	if err := json.Unmarshal(p, &f); err != nil || !utf8.Valid(p) {
		return fmt.Errorf("an invalid frame: %q", p)
	}
	from, text := "server", string(f.Content)
	if f.Sender != nil {
		from = *f.Sender
	}
	var chat plainContent
	if json.Unmarshal(f.Content, &chat) == nil && chat.Type == "chat_message" {
		text = chat.Content
	} else {
		_ = json.Unmarshal(f.Content, &text) // content that is not a string stays unchanged
	}
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if _, known := c.numbers[from]; c.joinsLate && !known {
		c.numbers[from] = n
	}
	switch {
	case err != nil:
		c.texts = append(c.texts, f.Type+" "+from+": "+text)
	case n != c.numbers[from]:
		return fmt.Errorf("%s says %d, and %d is due", from, n, c.numbers[from])
	default:
		c.numbers[from]++
	}
	return nil
}

// send sends a chat to the room.
func (c *checkedClient) send(text string) error {
	p := fmt.Appendf(nil, `{"content":%q,"target":"room"}`, text)
	return c.ws.Write(context.Background(), websocket.MessageText, p)
}

// wait waits for a condition on what was received.
func (c *checkedClient) wait(t *testing.T, ok func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		c.mu.Lock()
		yes, wrong, news := ok(), c.err, c.changed
		c.mu.Unlock()
		require.NoError(t, wrong)
		if yes {
			return
		}
		select {
		case <-news:
		case <-late.C:
			t.Fatal("timeout")
		}
	}
}

// expected returns the next expected number of a sender.
func (c *checkedClient) expected(from string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.numbers[from]
}

// expect waits for texts, and checks that no other text without a number was received.
func (c *checkedClient) expect(t *testing.T, want ...string) {
	t.Helper()
	c.wait(t, func() bool { return len(c.texts) >= len(want) })
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, want, c.texts)
	c.texts = nil
}

// requireAlive checks that the client is still connected and is answered, and closes it.
func (c *checkedClient) requireAlive(t *testing.T) {
	t.Helper()
	require.NoError(t, c.ws.Write(t.Context(), websocket.MessageText, []byte("ping")))
	c.wait(t, func() bool { return slices.Contains(c.texts, "pong") })
	_ = c.ws.CloseNow()
	<-c.done
}
