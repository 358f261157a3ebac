package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// All exported methods run concurrently, and Close in the middle. Nothing panics, races or
// deadlocks, and every frame is accounted for.
func TestAllMethodsConcurrently(t *testing.T) {
	for round := range 10 {
		callEverything(t, round%2 == 0, round%3*1000)
	}
}

func callEverything(t *testing.T, gently bool, budget int) {
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		Show: realtime.ShowMembers, AnnounceUsers: true, Authorize: realtime.InsecureAllowAll,
		Limits: realtime.Limits{QueueMessages: 32, InboundRate: -1, ConnsPerUser: 4, MemoryBytes: budget},

		Logger: slog.New(slog.DiscardHandler),
		Room: func(name string) realtime.RoomOptions {
			return realtime.RoomOptions{Slow: realtime.SlowPolicy(len(name) % 4)}
		},
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, _ = rt.Join(ctx, c.ID(), "hall")
			if rand.IntN(10) == 0 {
				return realtime.ErrForbidden
			}
			return nil
		},
		OnDisconnect: func(ctx context.Context, c *realtime.Conn, _ *realtime.CloseError) {
			_, _ = rt.Send(ctx, realtime.ToAll(), realtime.Chat(c.UserID(), "bye"))
		},
	})
	ctx := context.Background()
	ids := &idPool{}
	var workers, readers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 50 {
				openAndLeave(rt, ids, &readers)
			}
		})
		workers.Go(func() {
			for range 100 {
				callEachMethod(ctx, rt, ids)
			}
		})
	}
	workers.Go(func() {
		for range 200 {
			ids.any()
		}
		if gently {
			_ = rt.Shutdown(ctx)
		} else {
			_ = rt.Close()
		}
	})
	workers.Wait()
	require.NoError(t, rt.Close())
	require.NoError(t, rt.Shutdown(ctx))
	readers.Wait()
	requireConserved(t, rt.Stats())
}

// idPool is a set of connection ids for concurrent use.
type idPool struct {
	mu  sync.Mutex
	ids []string
}

func (p *idPool) put(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids = append(p.ids, id)
}

func (p *idPool) any() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == 0 {
		return "conn_none"
	}
	return p.ids[rand.IntN(len(p.ids))]
}

// openAndLeave opens a connection, sends messages, and ends the connection in a random way.
func openAndLeave(rt *realtime.Manager, ids *idPool, readers *sync.WaitGroup) {
	transport, far := realtime.Pipe()
	user := [...]string{"", "a", "b", "c", "d"}[rand.IntN(5)]
	c, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: user})
	if err != nil {
		far.Drop()
		return
	}
	ids.put(c.ID())
	if rand.IntN(4) > 0 { // the other connections do not read
		readers.Go(func() {
			for {
				if _, _, err := far.Read(context.Background()); err != nil {
					return
				}
			}
		})
	}
	for _, target := range []string{"all", "room", "a", "b"} {
		_ = far.Write(fmt.Appendf(nil, `{"content":"x","target":%q}`, target))
	}
	_ = far.Write([]byte("ping"))
	switch rand.IntN(4) {
	case 0:
		far.Drop()
	case 1:
		_ = far.Close(1000, "")
	case 2:
		_ = c.Close(4000, "")
	}
}

// callEachMethod calls each method once.
func callEachMethod(ctx context.Context, rt *realtime.Manager, ids *idPool) {
	id, room := ids.any(), [...]string{"x", "yy", "zzz", "hall"}[rand.IntN(4)]
	_, _ = rt.Join(ctx, id, room)
	_, _ = rt.Send(ctx, realtime.ToRoom("hall", room).Union(realtime.ToUser("a", "b")).
		Except(id).ExceptUser("c"), realtime.Message{Type: "n"})
	_, _ = rt.Send(ctx, realtime.ToAll().Union(realtime.ToConn(id)), realtime.Message{Type: "n"})
	h := rt.API(realtime.InsecureAllowRequests)
	for _, r := range []string{"POST /connections/" + id + "/join", "GET /stats",
		"GET /rooms/" + room + "/users", "POST /connections/" + id + "/leave"} {
		method, path, _ := strings.Cut(r, " ")
		h.ServeHTTP(httptest.NewRecorder(),
			httptest.NewRequest(method, path, strings.NewReader(`{"room_id":"`+room+`"}`)))
	}
	if c := rt.Conn(id); c != nil {
		_, _, _ = c.Info(), c.Rooms(), c.Identity()
		brief, cancel := context.WithCancel(ctx)
		cancel()
		_, _ = c.Ping(brief)
	}
	_, _ = rt.Room(room).Users(ctx)
	_, _ = rt.Room(room).Count(ctx)
	_, _ = rt.User("a").Count(ctx)
	for range rt.LocalConns() {
	}
	for range rt.LocalRooms() {
	}
	for range rt.Room(room).LocalConns() {
	}
	_ = rt.Stats()
	_, _ = rt.Leave(ctx, id, room)
	if rand.IntN(20) == 0 {
		_, _ = rt.User("b").Disconnect(ctx, 4000, "")
	}
	rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ws", nil))
}
