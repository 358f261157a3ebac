package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// Everything that changes a state runs concurrently, and Close or Shutdown in the middle. Nothing
// panics, races or deadlocks, and the memory of all states is given back.
func TestStatesConcurrently(t *testing.T) {
	for round := range long.Of(4, 12, 60) {
		changeEverything(t, round%2 == 0, round%3*2_000_000)
	}
}

func changeEverything(t *testing.T, gently bool, budget int) {
	shows := map[string]realtime.Show{
		"members": realtime.ShowMembers, "count": realtime.ShowCount, "nothing": realtime.ShowNothing,
	}
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, Logger: slog.New(slog.DiscardHandler),
		Limits: realtime.Limits{QueueMessages: 64, InboundRate: -1, ConnsPerUser: 20, MemoryBytes: budget},
		Room:   func(name string) realtime.RoomOptions { return realtime.RoomOptions{Show: shows[name]} },
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, _ = c.Join(ctx, "members")
			_, _ = rt.Send(ctx, realtime.ToConn(c.ID()), realtime.Message{Type: "t", Latest: "k", Content: []byte("1")})
			return c.SetInfo(1)
		},
	})
	ctx := context.Background()
	ids, tokens := &idPool{}, &idPool{}
	var workers, readers sync.WaitGroup
	var half sync.WaitGroup
	half.Add(4)
	for i := range 4 {
		workers.Go(func() {
			for j := range 40 {
				changeAsClient(rt, fmt.Sprint("user", i%2), ids, tokens, &readers)
				if j == 20 {
					half.Done()
				}
			}
		})
		workers.Go(func() {
			for range 300 {
				changeAsApplication(ctx, rt, ids)
			}
		})
	}
	workers.Go(func() {
		half.Wait()
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
	require.Zero(t, rt.Stats().MemoryBytes)
	require.Zero(t, rt.Stats().Panics)
}

// changeAsClient opens a connection of realtime.v1, perhaps resumes a session, and changes its state.
func changeAsClient(
	rt *realtime.Manager, user string, ids, tokens *idPool, readers *sync.WaitGroup,
) {
	transport, far := realtime.Pipe(realtime.V1)
	c, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: user})
	if err != nil {
		far.Drop()
		return
	}
	ids.put(c.ID())
	readers.Go(func() {
		for n := 1; ; n++ {
			frame, _, err := far.Read(context.Background())
			if err != nil {
				return
			}
			var f struct{ Content welcomeContent }
			if n == 1 && json.Unmarshal(frame, &f) == nil {
				tokens.put(f.Content.Session)
			}
			if n%4 == 0 {
				_ = far.Write(fmt.Appendf(nil, `{"type":"seen","frames":%d}`, n))
			}
		}
	})
	if rand.IntN(2) == 0 {
		_ = far.Write(fmt.Appendf(nil, `{"type":"resume","id":1,"session":%q}`, tokens.any()))
	}
	for range 10 {
		room := anyRoom()
		for _, request := range []string{
			`{"type":"join","id":1,"room":%q,"presence":true,"latest":5}`,
			`{"type":"join","id":1,"room":%q,"presence":true,"state":{"a":1}}`,
			`{"type":"recover","id":1,"room":%q,"presence":7}`,
			`{"type":"state","id":1,"room":%q,"state":{"a":2}}`,
			`{"type":"send","room":%q,"latest":"k","content":"x"}`,
			`{"type":"presence","id":1,"room":%q}`,
			`{"type":"leave","id":1,"room":%q}`,
		} {
			if rand.IntN(3) > 0 {
				_ = far.Write(fmt.Appendf(nil, request, room))
			}
		}
		_ = c.SetInfo(rand.IntN(100))
	}
	switch rand.IntN(4) {
	case 0:
		far.Drop()
	case 1:
		_ = far.Close(realtime.CloseAway, "")
	case 2:
		_ = far.Close(realtime.CloseNormal, "")
	}
}

func anyRoom() string { return [...]string{"members", "count", "nothing"}[rand.IntN(3)] }

// changeAsApplication calls what changes or shows the state of a room or a connection.
func changeAsApplication(ctx context.Context, rt *realtime.Manager, ids *idPool) {
	id, room := ids.any(), anyRoom()
	value := realtime.Message{Type: "t", Latest: fmt.Sprint("k", rand.IntN(5)), Content: []byte(`"v"`)}
	if rand.IntN(4) == 0 {
		value.Content = nil
	}
	_, _ = rt.Send(ctx, realtime.ToRoom(room), value)
	_, _ = rt.Send(ctx, realtime.ToConn(id), value)
	_, _ = rt.Join(ctx, id, room)
	if c := rt.Conn(id); c != nil {
		_ = c.SetInfo(map[string]int{"n": rand.IntN(1000)})
		_ = c.Renew(realtime.Identity{UserID: c.UserID(), Info: []byte("5")})
	}
	_, _ = rt.Room(room).Members(ctx)
	switch rand.IntN(20) {
	case 0:
		_, _ = rt.Room(room).Remove(ctx, "user0")
	case 1:
		_, _ = rt.Room(room).Deny(ctx, "user1", 1)
	case 2:
		_, _ = rt.Leave(ctx, id, room)
	case 3:
		_, _ = rt.User("user0").Disconnect(ctx, 4000, "")
	}
}

// The first value of a room makes its members readers, while the info of one of them changes.
func TestFirstValuesAndInfo(t *testing.T) {
	rt := realtime.New(&realtime.Options{Logger: slog.New(slog.DiscardHandler)})
	transport, far := realtime.Pipe(realtime.V1)
	c, err := rt.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
	require.NoError(t, err)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		for err := error(nil); err == nil; {
			_, _, err = far.Read(context.Background())
		}
	})
	for i := range 50 {
		require.NoError(t, second(c.Join(t.Context(), fmt.Sprint("room", i))))
	}
	work.Go(func() {
		for i := range 50 {
			_ = c.SetInfo(i)
		}
	})
	for i := range 50 {
		require.NoError(t, second(rt.Send(t.Context(), realtime.ToRoom(fmt.Sprint("room", i)),
			realtime.Message{Type: "t", Latest: "k", Content: []byte("1")})))
	}
	require.NoError(t, rt.Close())
}
