package integration_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/leaktest"
)

// patience is how long an attack waits for a condition.
const patience = 30 * time.Second

// world is a server with default options. In one room it has a bystander and a speaker, which sends
// numbers all the time. The attackers connect to the same server. The connections are on the
// loopback interface or, if an attack takes long, in memory in a synctest bubble.
type world struct {
	t      *testing.T
	rt     *realtime.Manager
	net    network
	server *http.Server
	log    lockedBuffer
	served chan error

	bystander, speaker *checkedClient
	stopSpeaker        context.CancelFunc // stops the speaker
	spoken             chan int           // how many numbers the speaker has sent

	before            int // goroutines before the world was created
	goroutines, files int // and before the attack
	baseline          realtime.Stats

	mu      sync.Mutex
	sockets []net.Conn // of the attackers
}

// network is a listener and the way to connect to it.
type network struct {
	net.Listener
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	pace   time.Duration // between two messages of the speaker
	settle func()        // waits for the end of goroutines whose peer is gone
}

// loopback is a network of real sockets. The speaker sends at the rate that is allowed permanently.
func loopback(t *testing.T) network {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	return network{l, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}, 5 * time.Millisecond, func() {}}
}

// pipes is a network in memory. The connections have no buffer: a write waits for a read.
func pipes() network {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	return network{l, l.dial, 50 * time.Millisecond, func() { time.Sleep(time.Minute) }}
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- near:
		return far, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

// newWorld starts the server. Users join the lobby or, if the name is user@room, that room. The
// user "stranger" is refused.
func newWorld(t *testing.T, o realtime.Options, f network) *world {
	w := &world{
		t: t, net: f, served: make(chan error, 1), before: runtime.NumGoroutine(),
		spoken: make(chan int, 1),
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.Authorize = realtime.InsecureAllowAll
	o.AllowedHosts = []string{"site.example", "127.0.0.1"}
	o.Authenticate = func(r *http.Request) (realtime.Identity, error) {
		if r.URL.Query().Get("user_id") == "stranger" {
			return realtime.Identity{}, errors.New("never seen")
		}
		return realtime.InsecureQueryUser(r)
	}
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		_, room, ok := strings.Cut(c.UserID(), "@")
		if !ok {
			room = "lobby"
		}
		_, err := w.rt.Join(ctx, c.ID(), room)
		return err
	}
	w.rt = realtime.New(&o)
	mux := http.NewServeMux()
	mux.Handle("/ws", w.rt)
	mux.Handle("/shut/", w.rt.API(nil))
	mux.Handle("/", w.rt.API(realtime.InsecureAllowRequests))
	w.server = realtime.NewServer("", mux)
	w.server.ErrorLog = log.New(&w.log, "", 0)
	go func() { w.served <- w.server.Serve(f.Listener) }()
	t.Cleanup(w.cleanUp)

	w.bystander, w.speaker = w.checkedClient("bystander", false), w.checkedClient("speaker", false)
	var ctx context.Context
	ctx, w.stopSpeaker = context.WithCancel(context.Background())
	go w.speak(ctx)
	w.takeBaseline()
	return w
}

// takeBaseline notes what exists before the attack.
func (w *world) takeBaseline() {
	w.t.Helper()
	w.awaitMessages(1) // everything that starts with the first message has started
	w.goroutines, w.files, w.baseline = runtime.NumGoroutine(), leaktest.OpenFiles(), w.rt.Stats()
}

// speak sends numbers to the room until ctx ends.
func (w *world) speak(ctx context.Context) {
	tick := time.NewTicker(w.net.pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.spoken <- n
			return
		}
		_ = w.speaker.send(strconv.Itoa(n)) // the bystander notices an error
	}
}

// awaitMessages waits until the bystander has received n more messages of the speaker.
func (w *world) awaitMessages(n int) {
	w.t.Helper()
	due := w.bystander.expected("speaker") + n
	w.bystander.wait(w.t, func() bool { return w.bystander.numbers["speaker"] >= due })
}

// finish closes the sockets of the attackers, and checks that nothing is left of them. It also
// checks that the bystander and the speaker are still connected, and have received each message
// once and in order.
func (w *world) finish() {
	w.t.Helper()
	w.awaitMessages(10)
	w.closeSockets()
	w.eventually(func() bool {
		s := w.rt.Stats()
		return s.Conns == w.baseline.Conns && s.Users == w.baseline.Users && s.Rooms == w.baseline.Rooms &&
			// testify has two, and a quiet connection may have one that reads.
			runtime.NumGoroutine() <= w.goroutines+4 && leaktest.OpenFiles() <= w.files
	})
	w.stopSpeaker()
	said := <-w.spoken
	for _, c := range []*checkedClient{w.bystander, w.speaker} {
		c.wait(w.t, func() bool { return c.numbers["speaker"] >= said })
		require.Equal(w.t, said, c.expected("speaker"))
		c.requireAlive(w.t)
	}
	w.close()
}

// close ends the server and checks the counters of a Manager at rest.
func (w *world) close() {
	w.t.Helper()
	require.NoError(w.t, w.rt.Close())
	require.NoError(w.t, w.server.Close())
	require.ErrorIs(w.t, <-w.served, http.ErrServerClosed)
	require.NoError(w.t, w.rt.Shutdown(context.Background())) // waits for handlers, which still count
	requireConserved(w.t, w.rt.Stats())
	require.Zero(w.t, w.rt.Stats().Panics)
	require.Empty(w.t, w.log.String(), "net/http has logged an error")
	w.eventually(func() bool { return runtime.NumGoroutine() <= w.before+2 })
}

// closeSockets closes the sockets of the attackers.
func (w *world) closeSockets() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.sockets {
		_ = nc.Close()
	}
}

// cleanUp ends what a failed test has left.
func (w *world) cleanUp() {
	if w.stopSpeaker != nil {
		w.stopSpeaker()
	}
	w.closeSockets()
	_ = w.server.Close()
	_ = w.rt.Close()
	w.net.settle()
}

// eventually waits for a condition.
func (w *world) eventually(ok func() bool) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%d goroutines after %d and %d, %d files after %d, %+v", runtime.NumGoroutine(),
				w.before, w.goroutines, leaktest.OpenFiles(), w.files, w.rt.Stats())
		}
	}()
	require.Eventually(w.t, ok, patience, time.Millisecond)
}

// awaitEnd waits until the server has ended the connections of the attackers.
func (w *world) awaitEnd() {
	w.t.Helper()
	w.eventually(func() bool { return w.rt.Stats().Conns == w.baseline.Conns })
}

// lockedBuffer is a buffer for concurrent writers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *lockedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *lockedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}
