package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// testEnv is a server and a network in memory, in a synctest bubble.
type testEnv struct {
	*memoryNetwork
	t       *testing.T
	server  *http.Server
	handler atomic.Pointer[http.Handler]
	serving sync.WaitGroup
	rt      *realtime.Manager // nil if the test has its own handler
	clients []*testClient
}

// withManager runs a test against a Manager. By default all users may do everything.
func withManager(t *testing.T, o realtime.Options, test func(t *testing.T, w *testEnv)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv(t)
		w.restart(o)
		test(t, w)
	})
}

// withHandler runs a test against any other handler.
func withHandler(t *testing.T, h http.Handler, test func(t *testing.T, w *testEnv)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv(t)
		w.setHandler(h)
		test(t, w)
	})
}

func newTestEnv(t *testing.T) *testEnv {
	w := &testEnv{memoryNetwork: newMemoryNetwork(), t: t}
	w.server = &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.serving.Add(1)
		defer w.serving.Done()
		(*w.handler.Load()).ServeHTTP(out, r)
	})}
	go func() { _ = w.server.Serve(w.memoryNetwork) }()
	t.Cleanup(w.close)
	return w
}

func (w *testEnv) setHandler(h http.Handler) { w.handler.Store(&h) }

// restart shuts the Manager down, if there is one, and replaces it by a new one.
func (w *testEnv) restart(o realtime.Options) {
	w.t.Helper()
	if w.rt != nil {
		require.NoError(w.t, w.rt.Shutdown(context.Background()))
	}
	if o.Authorize == nil {
		o.Authorize = realtime.InsecureAllowAll
	}
	if o.Authenticate == nil {
		o.Authenticate = realtime.InsecureQueryUser
	}
	o.Logger = slog.New(slog.DiscardHandler)
	w.rt = realtime.New(&o)
	w.setHandler(w.rt)
}

// close ends everything, and waits for it inside the bubble.
func (w *testEnv) close() {
	for _, r := range w.clients {
		_ = r.Close()
		r.reading.Wait()
	}
	if w.rt != nil {
		require.NoError(w.t, w.rt.Close())
	}
	require.NoError(w.t, w.server.Close())
	w.cutAll()
	synctest.Wait()
	w.serving.Wait()
}

// testClient is a client that records what it receives.
type testClient struct {
	*client.Client
	t *testing.T

	mu         sync.Mutex
	log        []string
	states     []client.State
	recoveries []string        // reports of OnRecover
	waits      []time.Duration // of the states with the phase Waiting
	reading    sync.WaitGroup
}

// dial connects a user and reads everything.
func (w *testEnv) dial(user string) *testClient {
	w.t.Helper()
	return w.dialWith(user, client.DialOptions{})
}

func (w *testEnv) dialWith(user string, o client.DialOptions) *testClient {
	w.t.Helper()
	r := w.dialPaused(user, o)
	r.startReading()
	return r
}

// dialPaused connects a user. Nothing is read until startReading.
func (w *testEnv) dialPaused(user string, o client.DialOptions) *testClient {
	w.t.Helper()
	r, err := w.tryDial(w.t.Context(), user, o)
	require.NoError(w.t, err)
	return r
}

func (w *testEnv) tryDial(ctx context.Context, user string, o client.DialOptions) (*testClient, error) {
	r := &testClient{t: w.t}
	o.OnState = func(s client.State) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states = append(r.states, s)
		if s.Phase == client.Waiting {
			r.waits = append(r.waits, time.Until(s.Retry))
		}
	}
	o.OnRecover = func(got client.Recovery) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recoveries = append(r.recoveries, fmt.Sprintf("%s %d", got.Room, got.Messages))
	}
	if o.HTTPClient == nil {
		o.HTTPClient = w.client()
	}
	c, err := client.Dial(ctx, "ws://realtime.test/ws?user_id="+user, &o)
	r.Client = c
	if err == nil {
		w.clients = append(w.clients, r)
	}
	return r, err
}

func (r *testClient) startReading() {
	r.reading.Go(func() {
		for msg, err := range r.Messages() {
			r.mu.Lock()
			r.log = append(r.log, describe(msg, err))
			r.mu.Unlock()
		}
	})
}

// describe returns "alice: content" or "alice@lobby: content" for a message, with the type before
// it unless it is chat. For an error it returns describeError.
func describe(m client.Message, err error) string {
	if err != nil {
		return describeError(err)
	}
	s := m.Sender
	if m.Type != "chat" {
		s = m.Type + " " + s
	}
	if m.Room != "" {
		s += "@" + m.Room
	}
	if m.Binary != nil {
		return fmt.Sprintf("%s: %x", s, m.Binary)
	}
	return s + ": " + string(m.Content)
}

// describeError returns "gap 1006", "gap dropped 3", "gap lobby expired 5-9", "room lobby:
// forbidden", "end 1000" or "end", for example.
func describeError(err error) string {
	if gap, ok := err.(*client.GapError); ok {
		s := "gap"
		if gap.Reason != "" {
			return fmt.Sprintf("gap %s %s %d-%d", gap.Room, gap.Reason, gap.From.Offset, gap.To.Offset)
		}
		if end, ok := errors.AsType[*realtime.CloseError](gap.Err); ok {
			s += fmt.Sprintf(" %d", end.Code)
		}
		if gap.Dropped > 0 {
			s += fmt.Sprintf(" dropped %d", gap.Dropped)
		}
		return s
	}
	if room, ok := err.(*client.RoomError); ok {
		return fmt.Sprintf("room %s: %s", room.Room, codeOf(room.Err))
	}
	if end, ok := errors.AsType[*realtime.CloseError](err); ok {
		return fmt.Sprintf("end %d", end.Code)
	}
	if err == realtime.ErrClosed {
		return "end"
	}
	return err.Error()
}

// codeOf returns the code of an answer of the server or of a client, or the text of another error.
func codeOf(err error) string {
	if e, ok := errors.AsType[*realtime.Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*realtime.ClientError](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

// received waits until all goroutines are blocked, and returns what was received since the last
// call.
func (r *testClient) received() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return append([]string{}, log...)
}

// takeRecoveries waits until all goroutines are blocked, and returns the reports of OnRecover since
// the last call.
func (r *testClient) takeRecoveries() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	caught := r.recoveries
	r.recoveries = nil
	return append([]string{}, caught...)
}

// takeStates waits until all goroutines are blocked, and returns the states since the last call.
func (r *testClient) takeStates() []client.State {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	states := r.states
	r.states = nil
	return states
}

// takePhases returns the phases of takeStates.
func (r *testClient) takePhases() []client.Phase {
	var phases []client.Phase
	for _, s := range r.takeStates() {
		phases = append(phases, s.Phase)
	}
	return phases
}

// awaitReconnect waits until the client has lost its connection and has opened a new one.
func (r *testClient) awaitReconnect() {
	r.t.Helper()
	for range 1000 {
		synctest.Wait()
		if r.takeReconnect() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatal("the client does not reconnect")
}

// takeReconnect removes the states up to the first open one after a waiting one. It reports whether
// there is one.
func (r *testClient) takeReconnect() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	waited := false
	for i, s := range r.states {
		waited = waited || s.Phase == client.Waiting
		if waited && s.Phase == client.Open {
			r.states = r.states[i+1:]
			return true
		}
	}
	return false
}

// waitTimes waits until all goroutines are blocked, and returns all waits between attempts so far.
func (r *testClient) waitTimes() []time.Duration {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.waits)
}

func (r *testClient) longestWait() time.Duration { return slices.Max(r.waitTimes()) }

// sendChat sends a chat message to a room.
func (r *testClient) sendChat(room, word string) error {
	return r.Send(r.t.Context(), realtime.ToRoom(room), realtime.Message{Content: []byte(`"` + word + `"`)})
}

func (r *testClient) join(rooms ...string) {
	r.t.Helper()
	for _, room := range rooms {
		require.NoError(r.t, r.Join(r.t.Context(), room))
	}
}
