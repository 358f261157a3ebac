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

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
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
		crowd  int  // connections to begin with
		tight  bool // queues overflow, and some clients do not read for a while
		rounds int
	}{
		"quiet":   {rounds: 10},
		"crowded": {rounds: 3, crowd: 100},
		"tight":   {rounds: 3, tight: true}, // a second each: to end who does not read takes one
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for range test.rounds {
				seed := rand.Uint64()
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { storms(t, seed, test.crowd, test.tight) }) {
					return
				}
			}
		})
	}
}

func storms(t *testing.T, seed uint64, size int, tight bool) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := newStorm(t, ctx, tight)
	defer s.rt.Close()
	for i := range size {
		s.enlist(&end{user: crowd[i%len(crowd)]})
	}
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
	ends
	tight bool
	api   http.Handler

	mu    sync.Mutex
	all   []*end
	toAll []string // the messages that everybody was sent
}

func newStorm(t *testing.T, ctx context.Context, tight bool) *storm {
	s := &storm{ends: ends{t: t, ctx: ctx}, tight: tight}
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
	anchor := s.enlist(&end{user: "anchor", home: true})
	for _, room := range anchored {
		_, err := s.rt.Join(ctx, anchor.conn.ID(), room)
		require.NoError(t, err)
	}
	return s
}

// connected puts every second connection into a room before anybody knows of it.
func (s *storm) connected(ctx context.Context, c *realtime.Conn) error {
	_ = s.ends.connected(ctx, c)
	if strings.HasPrefix(c.UserID(), "home") || c.ID()[len("conn_")] < '8' {
		return nil
	}
	_, err := s.rt.Join(ctx, c.ID(), rooms[1])
	return err
}

// enlist opens a connection for everybody to use.
func (s *storm) enlist(e *end) *end {
	if s.open(e) == nil {
		return e // the test has failed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
	return e
}

// anybody returns a connection, which may have ended, or nil.
func (s *storm) anybody(random *rand.Rand) *end {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*end
	for _, e := range s.all {
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
	return slices.DeleteFunc(slices.Clone(s.all), func(e *end) bool {
		return e.doomed || e.conn.Context().Err() != nil
	})
}

// calm waits until those who must end have ended.
func (s *storm) calm() {
	left := s.survivors()
	for _, e := range s.all {
		if !slices.Contains(left, e) {
			s.await(e)
		}
	}
}

// drain waits until all survivors have read what was sent: after the first round all
// that was written has been sent on, and after the second it has been read.
func (s *storm) drain() {
	for _, e := range s.all {
		e.start()
	}
	s.ping(s.survivors()...)
	s.ping(s.survivors()...)
}

// post calls the REST interface, which may find that the connection has just ended.
func (s *storm) post(path, body string) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	gone := strings.TrimSpace(w.Body.String()) == notFound
	if w.Code != http.StatusOK && !gone {
		s.t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
	}
}
