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

// witness is a well-behaved client that checks all it gets: it is UTF-8 and JSON, and where
// it begins with a number, that is the next of its sender.
type witness struct {
	ws   *websocket.Conn
	done chan struct{} // closed when it reads no more
	late bool          // the senders may have begun before it came

	mu    sync.Mutex
	news  chan struct{}  // closed with the next frame
	next  map[string]int // the number that is due, by sender
	heard []string       // what has no number, as "type sender: text"
	wrong error
}

// witness connects a well-behaved client.
func (a *arena) witness(user string, late bool) *witness {
	a.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: a.field.dial}}
	ws, _, err := websocket.Dial(a.t.Context(), "http://arena/ws?user_id="+user,
		&websocket.DialOptions{HTTPClient: &client})
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	_, p, err := ws.Read(a.t.Context())
	require.NoError(a.t, err)
	require.Equal(a.t, "welcome", shorthand(a.t, string(p)))
	w := &witness{
		ws: ws, late: late,
		done: make(chan struct{}), news: make(chan struct{}), next: map[string]int{},
	}
	go w.read()
	return w
}

func (w *witness) read() {
	defer close(w.done)
	for {
		_, p, err := w.ws.Read(context.Background())
		w.mu.Lock()
		if err == nil {
			err = w.take(p)
		}
		w.wrong = err
		close(w.news)
		w.news = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take checks one frame and writes it down. w.mu is held.
func (w *witness) take(p []byte) error {
	if string(p) == "pong" {
		w.heard = append(w.heard, "pong")
		return nil
	}
	var f plainFrame
	if err := json.Unmarshal(p, &f); err != nil || !utf8.Valid(p) {
		return fmt.Errorf("a poisoned frame: %q", p)
	}
	from, text := "server", string(f.Content)
	if f.Sender != nil {
		from = *f.Sender
	}
	var c plainContent
	if json.Unmarshal(f.Content, &c) == nil && c.Type == "chat_message" {
		text = c.Content
	} else {
		_ = json.Unmarshal(f.Content, &text) // what is no string stays as it is
	}
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if _, known := w.next[from]; w.late && !known {
		w.next[from] = n
	}
	switch {
	case err != nil:
		w.heard = append(w.heard, f.Type+" "+from+": "+text)
	case n != w.next[from]:
		return fmt.Errorf("%s says %d, and %d is due", from, n, w.next[from])
	default:
		w.next[from]++
	}
	return nil
}

// say sends a chat to the room.
func (w *witness) say(text string) error {
	p := fmt.Appendf(nil, `{"content":%q,"target":"room"}`, text)
	return w.ws.Write(context.Background(), websocket.MessageText, p)
}

// until waits for a condition on what the witness has got.
func (w *witness) until(t *testing.T, ok func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		yes, wrong, news := ok(), w.wrong, w.news
		w.mu.Unlock()
		require.NoError(t, wrong)
		if yes {
			return
		}
		select {
		case <-news:
		case <-late.C:
			t.Fatal("the witness waits in vain")
		}
	}
}

// due returns the number that is due from a sender.
func (w *witness) due(from string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next[from]
}

// hears waits for the last of these, and checks that they are all that has no number.
func (w *witness) hears(t *testing.T, want ...string) {
	t.Helper()
	w.until(t, func() bool { return len(w.heard) >= len(want) })
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(t, want, w.heard)
	w.heard = nil
}

// leave checks that the witness is still connected and heard, and ends it.
func (w *witness) leave(t *testing.T) {
	t.Helper()
	require.NoError(t, w.ws.Write(t.Context(), websocket.MessageText, []byte("ping")))
	w.until(t, func() bool { return slices.Contains(w.heard, "pong") })
	_ = w.ws.CloseNow()
	<-w.done
}
