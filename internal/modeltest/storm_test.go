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
	// patience is how long a test waits for an event.
	patience = 20 * time.Second
)

// TestStorm runs several actors concurrently. Afterwards the remaining connections must be where
// the rosters say, and all receivers must have read the messages in one order.
func TestStorm(t *testing.T) {
	tests := map[string]struct {
		conns  int  // connections at the beginning
		tight  bool // send queues overflow, and some clients do not read at first
		rounds int
	}{
		"quiet":   {rounds: 10},
		"crowded": {rounds: 3, conns: 100},
		"tight":   {rounds: 3, tight: true}, // a second for each round, to end a stalled client
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for range test.rounds {
				seed := rand.Uint64()
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { storms(t, seed, test.conns, test.tight) }) {
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
		s.add(&end{user: stormUsers[i%len(stormUsers)]})
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
	s.awaitEnds()
	s.checkRosters()
	s.checkPresence()
	s.drain()
	s.checkRooms()
	require.NoError(t, s.rt.Close())
	s.readers.Wait()
	s.checkCounts()
	s.checkOrder()
	for _, a := range all {
		a.check()
	}
}

// storm is a Manager with the client sides of all connections that it has had.
type storm struct {
	ends
	tight bool
	api   http.Handler

	mu    sync.Mutex
	all   []*end
	toAll []string // all messages to all
}

func newStorm(t *testing.T, ctx context.Context, tight bool) *storm {
	s := &storm{ends: ends{t: t, ctx: ctx}, tight: tight}
	o := &realtime.Options{
		Show: realtime.ShowMembers, AnnounceUsers: true,
		Authorize:    realtime.InsecureAllowAll,
		Limits:       realtime.Limits{InboundRate: -1},
		Logger:       slog.New(slog.DiscardHandler),
		OnConnect:    s.connected,
		OnDisconnect: s.disconnected,
	}
	if tight {
		o.Limits.QueueMessages, o.Slow = 8, realtime.SlowDropOldest
		o.Room = func(name string) realtime.RoomOptions {
			if name == rooms[0] {
				return realtime.RoomOptions{Slow: realtime.SlowDropNewest}
			}
			return realtime.RoomOptions{}
		}
	}
	s.rt = realtime.New(o)
	s.api = s.rt.API(realtime.InsecureAllowRequests)
	anchor := s.add(&end{user: "anchor", home: true})
	for _, room := range anchored {
		_, err := s.rt.Join(ctx, anchor.conn.ID(), room)
		require.NoError(t, err)
	}
	return s
}

// connected adds every second connection to a room, before other goroutines know the connection.
func (s *storm) connected(ctx context.Context, c *realtime.Conn) error {
	_ = s.ends.connected(ctx, c)
	if strings.HasPrefix(c.UserID(), "home") || c.ID()[len("conn_")] < '8' {
		return nil
	}
	_, err := s.rt.Join(ctx, c.ID(), rooms[1])
	return err
}

// add opens a connection that all actors may use.
func (s *storm) add(e *end) *end {
	if s.open(e) == nil {
		return e // open has reported the error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
	return e
}

// randomEnd returns a connection that all actors may use, which may have ended, or nil.
func (s *storm) randomEnd(random *rand.Rand) *end {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*end
	for _, e := range s.all {
		if !e.closed && !e.home {
			open = append(open, e)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return open[random.IntN(len(open))]
}

// markClosed records that the client is about to end a connection. The server notices it at some
// later time.
func (s *storm) markClosed(e *end) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.closed = true
}

// remaining returns the connections that are still open after the storm.
func (s *storm) remaining() []*end {
	return slices.DeleteFunc(slices.Clone(s.all), func(e *end) bool {
		return e.closed || e.conn.Context().Err() != nil
	})
}

// awaitEnds waits until all other connections have ended.
func (s *storm) awaitEnds() {
	left := s.remaining()
	for _, e := range s.all {
		if !slices.Contains(left, e) {
			s.await(e)
		}
	}
}

// drain waits until all remaining connections have read everything. After the first round
// everything written has been delivered, and after the second it has been read.
func (s *storm) drain() {
	for _, e := range s.all {
		e.start()
	}
	s.ping(s.remaining()...)
	s.ping(s.remaining()...)
}

// post calls the REST interface. The connection may have just ended.
func (s *storm) post(path, body string) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	gone := strings.TrimSpace(w.Body.String()) == notFound
	if w.Code != http.StatusOK && !gone {
		s.t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
	}
}
