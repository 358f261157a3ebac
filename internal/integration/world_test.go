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

// patience is how long an attack waits for what has to happen.
const patience = 30 * time.Second

// arena is the ready-made server with the default options, and in one room a bystander, a
// herald who says numbers all the time, and whoever attacks them. They meet on loopback or,
// where an attack takes long, in a bubble.
type arena struct {
	t      *testing.T
	rt     *realtime.Manager
	field  field
	server *http.Server
	log    scroll
	served chan error

	bystander, herald *witness
	hush              context.CancelFunc // has the herald stop
	said              chan int           // how many numbers he has said

	before            int // goroutines before there was anything
	goroutines, files int // and before the attack
	peace             realtime.Stats

	mu      sync.Mutex
	sockets []net.Conn // of the attackers
}

// field is where an arena is: a listener, and the way to it.
type field struct {
	net.Listener
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	pace time.Duration // between two words of the herald
	rest func()        // lets those end who have nobody to talk to any more
}

// loopback is the field with real sockets. The herald says as much as a client may for ever.
func loopback(t *testing.T) field {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	return field{l, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}, 5 * time.Millisecond, func() {}}
}

// pipes is the field in memory. The connections have no buffer: a peer who does not read
// takes nothing.
func pipes() field {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	return field{l, l.dial, 50 * time.Millisecond, func() { time.Sleep(time.Minute) }}
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

// newArena opens an arena. Users enter the lobby or, as user@room, another room. A stranger
// is refused.
func newArena(t *testing.T, o realtime.Options, f field) *arena {
	a := &arena{
		t: t, field: f, served: make(chan error, 1), before: runtime.NumGoroutine(),
		said: make(chan int, 1),
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.Authorize = realtime.InsecureAllowAll
	o.AllowedHosts = []string{"arena", "127.0.0.1"}
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
		_, err := a.rt.Join(ctx, c.ID(), room)
		return err
	}
	a.rt = realtime.New(&o)
	mux := http.NewServeMux()
	mux.Handle("/ws", a.rt)
	mux.Handle("/shut/", a.rt.API(nil))
	mux.Handle("/", a.rt.API(realtime.InsecureAllowRequests))
	a.server = realtime.NewServer("", mux)
	a.server.ErrorLog = log.New(&a.log, "", 0)
	go func() { a.served <- a.server.Serve(f.Listener) }()
	t.Cleanup(a.abandon)

	a.bystander, a.herald = a.witness("bystander", false), a.witness("herald", false)
	var ctx context.Context
	ctx, a.hush = context.WithCancel(context.Background())
	go a.speak(ctx)
	a.measure()
	return a
}

// measure takes down what there is before the attack.
func (a *arena) measure() {
	a.t.Helper()
	a.hear(1) // whatever starts with the first message has started
	a.goroutines, a.files, a.peace = runtime.NumGoroutine(), leaktest.OpenFiles(), a.rt.Stats()
}

// speak has the herald say numbers to the room.
func (a *arena) speak(ctx context.Context) {
	tick := time.NewTicker(a.field.pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.said <- n
			return
		}
		_ = a.herald.say(strconv.Itoa(n)) // the bystander notices if it fails
	}
}

// hear waits until the bystander has heard n more words of the herald.
func (a *arena) hear(n int) {
	a.t.Helper()
	due := a.bystander.due("herald") + n
	a.bystander.until(a.t, func() bool { return a.bystander.next["herald"] >= due })
}

// settle hangs up on the attackers, and checks that nothing is left of them and that the
// witnesses have missed nothing, got nothing twice and nothing out of order, and are still
// connected.
func (a *arena) settle() {
	a.t.Helper()
	a.hear(10)
	a.hangUp()
	a.eventually(func() bool {
		s := a.rt.Stats()
		return s.Conns == a.peace.Conns && s.Users == a.peace.Users && s.Rooms == a.peace.Rooms &&
			// testify has two, and who says nothing may be read by one more.
			runtime.NumGoroutine() <= a.goroutines+4 && leaktest.OpenFiles() <= a.files
	})
	a.hush()
	said := <-a.said
	for _, w := range []*witness{a.bystander, a.herald} {
		w.until(a.t, func() bool { return w.next["herald"] >= said })
		require.Equal(a.t, said, w.due("herald"))
		w.leave(a.t)
	}
	a.close()
}

// close ends the server and checks the law of a Manager at rest.
func (a *arena) close() {
	a.t.Helper()
	require.NoError(a.t, a.rt.Close())
	require.NoError(a.t, a.server.Close())
	require.ErrorIs(a.t, <-a.served, http.ErrServerClosed)
	require.NoError(a.t, a.rt.Shutdown(context.Background())) // waits for handlers, which still count
	requireConserved(a.t, a.rt.Stats())
	require.Zero(a.t, a.rt.Stats().Panics)
	require.Empty(a.t, a.log.String(), "net/http has something to complain of")
	a.eventually(func() bool { return runtime.NumGoroutine() <= a.before+2 })
}

// hangUp closes the attackers' sockets.
func (a *arena) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, nc := range a.sockets {
		_ = nc.Close()
	}
}

// abandon ends what a test that failed has left.
func (a *arena) abandon() {
	if a.hush != nil {
		a.hush()
	}
	a.hangUp()
	_ = a.server.Close()
	_ = a.rt.Close()
	a.field.rest()
}

// eventually waits for a condition.
func (a *arena) eventually(ok func() bool) {
	a.t.Helper()
	defer func() {
		if a.t.Failed() {
			a.t.Logf("%d goroutines after %d and %d, %d files after %d, %+v", runtime.NumGoroutine(),
				a.before, a.goroutines, leaktest.OpenFiles(), a.files, a.rt.Stats())
		}
	}()
	require.Eventually(a.t, ok, patience, time.Millisecond)
}

// gone waits until the server has got rid of all attackers, who are still there.
func (a *arena) gone() {
	a.t.Helper()
	a.eventually(func() bool { return a.rt.Stats().Conns == a.peace.Conns })
}

// scroll is a log that many write.
type scroll struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *scroll) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *scroll) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}
