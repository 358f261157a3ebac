package modeltest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/stretchr/testify/require"
)

const (
	actors = 5
	acts   = 80 // of each actor
	// patience is how long anything may take that has to happen.
	patience = 20 * time.Second
)

// TestStorm lets several goroutines do everything at once. Then those who are left
// must be where the rosters say, and what everybody has read must be in one order.
func TestStorm(t *testing.T) {
	tests := map[string]struct {
		tight  bool // queues overflow, and some clients do not read for a while
		rounds int
	}{
		"roomy": {tight: false, rounds: 20},
		"tight": {tight: true, rounds: 4}, // a second each: to end who does not read takes one
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for range test.rounds {
				seed := rand.Uint64()
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { storms(t, seed, test.tight) }) {
					return
				}
			}
		})
	}
}

func storms(t *testing.T, seed uint64, tight bool) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := newStorm(t, ctx, tight)
	defer s.rt.Close()
	var all []*actor
	for i := range actors {
		all = append(all, newActor(s, i, seed))
	}
	var players sync.WaitGroup
	for _, a := range all {
		players.Go(a.play)
	}
	players.Wait()
	s.calm()
	s.checkRosters()
	s.checkPresence()
	s.drain()
	s.checkRooms()
	require.NoError(t, s.rt.Close())
	s.readers.Wait()
	s.checkBooks()
	s.checkOrder()
	for _, a := range all {
		a.check()
	}
}

// storm is a Manager with the far ends of all connections that it has had.
type storm struct {
	t     *testing.T
	ctx   context.Context
	tight bool
	rt    *realtime.Manager
	api   http.Handler

	readers sync.WaitGroup
	gone    sync.Map // by connection: a channel that OnDisconnect closes
	mu      sync.Mutex
	ends    []*end
	toAll   []string // the messages that everybody was sent
}

func newStorm(t *testing.T, ctx context.Context, tight bool) *storm {
	s := &storm{t: t, ctx: ctx, tight: tight}
	o := &realtime.Options{
		Announce:     realtime.AnnounceUsers | realtime.AnnounceRooms,
		Authorize:    realtime.InsecureAllowAll,
		InboundRate:  -1,
		Logger:       slog.New(slog.DiscardHandler),
		OnConnect:    s.connected,
		OnDisconnect: s.disconnected,
	}
	if tight {
		o.QueueMessages, o.Slow = 8, realtime.SlowDropOldest
		o.Room = func(name string) realtime.RoomOptions {
			if name == rooms[0] {
				return realtime.RoomOptions{Slow: realtime.SlowDropNewest}
			}
			return realtime.RoomOptions{}
		}
	}
	s.rt = realtime.New(o)
	s.api = s.rt.API(realtime.InsecureAllowRequests)
	anchor := s.open(&end{user: "anchor", home: true})
	for _, room := range anchored {
		_, err := s.rt.Join(ctx, anchor.conn.ID(), room)
		require.NoError(t, err)
	}
	return s
}

// connected puts every second connection into a room before anybody knows of it.
func (s *storm) connected(ctx context.Context, c *realtime.Conn) error {
	s.gone.Store(c.ID(), make(chan struct{}))
	if strings.HasPrefix(c.UserID(), "home") || c.ID()[5] < '8' {
		return nil
	}
	_, err := s.rt.Join(ctx, c.ID(), rooms[1])
	return err
}

func (s *storm) disconnected(_ context.Context, c *realtime.Conn, _ *realtime.CloseError) {
	close(s.goneOf(c)) // a second time would panic, which is counted
}

func (s *storm) goneOf(c *realtime.Conn) chan struct{} {
	gone, _ := s.gone.Load(c.ID())
	return gone.(chan struct{})
}

// open opens a connection as e, which nobody knows yet.
func (s *storm) open(e *end) *end {
	transport, pipe := realtime.Pipe()
	conn, err := s.rt.Register(s.ctx, transport, realtime.Identity{UserID: e.user})
	if err != nil {
		s.t.Errorf("open: %v", err)
		return nil
	}
	e.conn, e.pipe, e.gone = conn, pipe, s.goneOf(conn)
	e.reads, e.pongs = make(chan struct{}), make(chan struct{}, 1)
	if !e.stalled {
		e.start()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, e)
	s.readers.Go(func() { e.read(s.t) })
	return e
}

// anybody returns a connection, which may have ended, or nil.
func (s *storm) anybody(random *rand.Rand) *end {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*end
	for _, e := range s.ends {
		if !e.doomed && !e.home {
			open = append(open, e)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return open[random.IntN(len(open))]
}

// doom marks a connection that its client is about to end: the server will see that
// at some time.
func (s *storm) doom(e *end) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.doomed = true
}

// survivors are those who are still open when all is done.
func (s *storm) survivors() []*end {
	return slices.DeleteFunc(slices.Clone(s.ends), func(e *end) bool {
		return e.doomed || e.conn.Context().Err() != nil
	})
}

// calm waits until those who must end have ended.
func (s *storm) calm() {
	left := s.survivors()
	for _, e := range s.ends {
		if slices.Contains(left, e) {
			continue
		}
		select {
		case <-e.gone:
		case <-s.ctx.Done():
			require.FailNow(s.t, "a connection that was closed does not end")
		}
	}
}

// drain waits until all survivors have read what was sent. A pong comes behind what the
// client wrote before its ping, and behind what it was sent before that: so after the
// first round all chats have been sent, and after the second they have been read.
func (s *storm) drain() {
	for _, e := range s.ends {
		e.start()
	}
	for range 2 {
		for _, e := range s.survivors() {
			require.NoError(s.t, e.pipe.Write([]byte("ping")))
		}
		for _, e := range s.survivors() {
			select {
			case <-e.pongs:
			case <-s.ctx.Done():
				require.FailNow(s.t, "a connection gets no pong")
			}
		}
	}
}

// post calls the REST interface, whose refusals are part of the storm.
func (s *storm) post(path, body string) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	gone := w.Code == http.StatusBadRequest // the connection ends at the same time
	if w.Code != http.StatusOK && !gone {
		s.t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
	}
}
