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

// world is a server in memory, in a bubble.
type world struct {
	*memory
	t       *testing.T
	server  *http.Server
	handler atomic.Pointer[http.Handler]
	serving sync.WaitGroup
	rt      *realtime.Manager // nil with a server of a test's own
	rigs    []*rig
}

// bubble runs a test against a Manager. Options that say nothing else open all doors.
func bubble(t *testing.T, o realtime.Options, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.restart(o)
		test(t, w)
	})
}

// served runs a test against any other server.
func served(t *testing.T, h http.Handler, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.serve(h)
		test(t, w)
	})
}

func newWorld(t *testing.T) *world {
	w := &world{memory: newMemory(), t: t}
	w.server = &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.serving.Add(1)
		defer w.serving.Done()
		(*w.handler.Load()).ServeHTTP(out, r)
	})}
	go func() { _ = w.server.Serve(w.memory) }()
	t.Cleanup(w.close)
	return w
}

func (w *world) serve(h http.Handler) { w.handler.Store(&h) }

// restart puts a new Manager in the place of the old one.
func (w *world) restart(o realtime.Options) {
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
	w.serve(w.rt)
}

// close ends everything, and waits for it while the clock still runs.
func (w *world) close() {
	for _, r := range w.rigs {
		_ = r.Close()
		r.read.Wait()
	}
	if w.rt != nil {
		require.NoError(w.t, w.rt.Close())
	}
	require.NoError(w.t, w.server.Close())
	w.cut()
	synctest.Wait()
	w.serving.Wait()
}

// rig is a client, and what it has received.
type rig struct {
	*client.Client
	t *testing.T

	mu     sync.Mutex
	log    []string
	states []client.State
	caught []string        // what it was told to have recovered
	waits  []time.Duration // of the states that were waiting
	read   sync.WaitGroup
}

// dial connects a user and reads all that comes.
func (w *world) dial(user string) *rig {
	w.t.Helper()
	return w.dialWith(user, client.DialOptions{})
}

func (w *world) dialWith(user string, o client.DialOptions) *rig {
	w.t.Helper()
	r := w.deaf(user, o)
	r.listen()
	return r
}

// deaf connects a user who reads nothing until listen.
func (w *world) deaf(user string, o client.DialOptions) *rig {
	w.t.Helper()
	r, err := w.try(w.t.Context(), user, o)
	require.NoError(w.t, err)
	return r
}

func (w *world) try(ctx context.Context, user string, o client.DialOptions) (*rig, error) {
	r := &rig{t: w.t}
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
		r.caught = append(r.caught, fmt.Sprintf("%s %d", got.Room, got.Messages))
	}
	if o.HTTPClient == nil {
		o.HTTPClient = w.client()
	}
	c, err := client.Dial(ctx, "ws://realtime.test/ws?user_id="+user, &o)
	r.Client = c
	if err == nil {
		w.rigs = append(w.rigs, r)
	}
	return r, err
}

func (r *rig) listen() {
	r.read.Go(func() {
		for msg, err := range r.Messages() {
			r.mu.Lock()
			r.log = append(r.log, shorthand(msg, err))
			r.mu.Unlock()
		}
	})
}

// shorthand is "alice: content", "alice@lobby: content" with types other than chat in front, or
// the error.
func shorthand(m client.Message, err error) string {
	if err != nil {
		return brief(err)
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

// brief is "gap 1006", "gap dropped 3", "gap lobby expired 5-9", "room lobby: forbidden", "end
// 1000" or "end".
func brief(err error) string {
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
		return fmt.Sprintf("room %s: %s", room.Room, code(room.Err))
	}
	if end, ok := errors.AsType[*realtime.CloseError](err); ok {
		return fmt.Sprintf("end %d", end.Code)
	}
	if err == realtime.ErrClosed {
		return "end"
	}
	return err.Error()
}

// code is that of a *realtime.Error, or the text of another one.
func code(err error) string {
	if e, ok := errors.AsType[*realtime.Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*realtime.ClientError](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

// got waits until everything is at rest and returns what has come since the last call.
func (r *rig) got() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return append([]string{}, log...)
}

// recovered waits until everything is at rest and returns what the client was told to have
// recovered since the last call.
func (r *rig) recovered() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	caught := r.caught
	r.caught = nil
	return append([]string{}, caught...)
}

// been waits until everything is at rest and returns the states since the last call.
func (r *rig) been() []client.State {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	states := r.states
	r.states = nil
	return states
}

// phases is been in short.
func (r *rig) phases() []client.Phase {
	var phases []client.Phase
	for _, s := range r.been() {
		phases = append(phases, s.Phase)
	}
	return phases
}

// back waits until the client has lost its connection and has one again.
func (r *rig) back() {
	r.t.Helper()
	for range 1000 {
		synctest.Wait()
		if r.comeBack() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatal("the client does not come back")
}

// comeBack takes the states up to the first open one that follows a waiting one.
func (r *rig) comeBack() bool {
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

// waited waits until everything is at rest, and returns how long the client has waited each time.
func (r *rig) waited() []time.Duration {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.waits)
}

func (r *rig) longest() time.Duration { return slices.Max(r.waited()) }

// say sends a chat to a room.
func (r *rig) say(room, word string) error {
	return r.Send(r.t.Context(), realtime.ToRoom(room), realtime.Message{Content: []byte(`"` + word + `"`)})
}

func (r *rig) join(rooms ...string) {
	r.t.Helper()
	for _, room := range rooms {
		require.NoError(r.t, r.Join(r.t.Context(), room))
	}
}
