package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

// A server with chat rooms. Its users are known by a cookie, and may send to the rooms that they
// belong to.
func ExampleNew() {
	rt := realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return realtime.Identity{}, realtime.ErrUnauthenticated
			}
			return realtime.Identity{UserID: userOfSession(cookie.Value)}, nil
		},
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionSend && len(a.Target.Rooms) == 1 {
				return nil // c.UserID() may talk in a.Target.Rooms[0]
			}
			return realtime.ErrForbidden
		},
	})
	defer rt.Close()

	mux := http.NewServeMux()
	mux.Handle("GET /ws", rt)
	srv := realtime.NewServer("localhost:8080", mux)
	_ = srv // srv.ListenAndServe()
}

func userOfSession(string) string { return "alice" }

// Send delivers a message to each connection of the target once.
func ExampleManager_Send() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, phone := connect(rt, "alice"), connect(rt, "alice")
	bob := connect(rt, "bob")
	_, _ = rt.Join(ctx, alice.ID(), "lobby")
	_, _ = rt.Join(ctx, bob.ID(), "lobby")

	news := realtime.Message{Type: "news", Content: json.RawMessage(`{"headline":"hi"}`)}
	for _, target := range []realtime.Target{
		realtime.ToAll(),
		realtime.ToRoom("lobby"),
		realtime.ToRoom("lobby").Except(alice.ID()),
		realtime.ToUser("alice"),
		realtime.ToRoom("lobby").Union(realtime.ToUser("alice")),
		realtime.ToConn(phone.ID()),
		realtime.ToUser("carol"),
	} {
		res, err := rt.Send(ctx, target, news)
		fmt.Println(res.Queued, res.Offline, err)
	}
	// Output:
	// 3 0 <nil>
	// 2 0 <nil>
	// 1 0 <nil>
	// 2 0 <nil>
	// 3 0 <nil>
	// 1 0 <nil>
	// 0 1 <nil>
}

// A room exists from its first member to its last.
func ExampleManager_Join() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, phone := connect(rt, "alice"), connect(rt, "alice")

	for _, id := range []string{alice.ID(), alice.ID(), phone.ID(), "conn_unknown"} {
		joined, err := rt.Join(ctx, id, "lobby")
		fmt.Println(joined, err)
	}
	members, _ := rt.Room("lobby").Members(ctx)
	count, _ := rt.Room("lobby").Count(ctx)
	fmt.Println(members, count.Users, count.Conns)

	_, _ = rt.Leave(ctx, alice.ID(), "lobby")
	_, _ = rt.Leave(ctx, phone.ID(), "lobby")
	fmt.Println(rt.Stats().Rooms)
	// Output:
	// true <nil>
	// false <nil>
	// true <nil>
	// false realtime: connection not found
	// [alice] 1 2
	// 0
}

// Authorize decides about each action of a client. Without it, all are refused.
func ExampleAuthorizer() {
	rt := realtime.New(&realtime.Options{
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionSend && a.Target.All && c.UserID() != "admin" {
				return errors.New("only the admin talks to everybody")
			}
			return nil
		},
	})
	defer rt.Close()

	transport, client := realtime.Pipe() // a client in memory, as in a test
	_, _ = rt.Register(context.Background(), transport, realtime.Identity{UserID: "admin"})
	_ = client.Write([]byte(`{"content":"hello","target":"all"}`))
	for range 2 {
		frame, _, _ := client.Read(context.Background())
		fmt.Println(strings.Split(string(frame), `"`)[3])
	}
	// Output:
	// welcome
	// chat
}

// OnMessage replaces the default, which sends the message on unchanged.
func ExampleMessageFunc() {
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll,
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) error {
			if strings.Contains(in.Text, "darn") {
				return errors.New("mind your language")
			}
			_, err := rt.Send(ctx, in.Target.Except(c.ID()), in.Message)
			return err
		},
	})
	defer rt.Close()
}

// The REST handler works under any prefix.
func ExampleManager_API() {
	rt := realtime.New(nil)
	defer rt.Close()
	adminsOnly := func(r *http.Request, _ realtime.Action) error {
		if _, password, ok := r.BasicAuth(); !ok || password != "secret" {
			return realtime.ErrForbidden
		}
		return nil
	}
	http.Handle("/rt/", rt.API(adminsOnly))
}

// The application ends connections. The close code tells the client whether to reconnect.
func ExampleUser_Disconnect() {
	rt := realtime.New(nil)
	defer rt.Close()
	transport, client := realtime.Pipe()
	_, _ = rt.Register(context.Background(), transport, realtime.Identity{UserID: "mallory"})

	n, err := rt.User("mallory").Disconnect(context.Background(), 4500, "banned")
	fmt.Println(n, err)

	_, _, _ = client.Read(context.Background()) // welcome
	_, _, err = client.Read(context.Background())
	end, _ := errors.AsType[*realtime.CloseError](err)
	fmt.Println(end.Code, end.Reason, end.Code.ComeBack())
	// Output:
	// 1 <nil>
	// 4500 banned false
}

// A test of an application needs no port: Pipe connects a client in memory.
func ExampleUser_Deny() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	first, _ := realtime.Pipe()
	_, _ = rt.Register(ctx, first, realtime.Identity{UserID: "mallory"})

	n, _ := rt.User("mallory").Deny(ctx, time.Hour)
	fmt.Println(n, "closed")

	again, _ := realtime.Pipe()
	_, err := rt.Register(ctx, again, realtime.Identity{UserID: "mallory"})
	fmt.Println(err)
	// Output:
	// 1 closed
	// realtime: denied
}

func ExampleRoom_Remove() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	transport, _ := realtime.Pipe()
	c, _ := rt.Register(ctx, transport, realtime.Identity{UserID: "mallory"})
	_, _ = rt.Join(ctx, c.ID(), "lobby")

	n, _ := rt.Room("lobby").Remove(ctx, "mallory")
	fmt.Println(n, c.Rooms())
	// Output: 1 []
}

// When an identity expires, the session is looked up again. If it is gone, the connection is ended.
func ExampleOptions_revalidate() {
	sessions := map[string]time.Time{} // yours
	rt := realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return realtime.Identity{}, err
			}
			return realtime.Identity{UserID: "alice", ExpiresAt: sessions[cookie.Value], Data: cookie.Value}, nil
		},
		Revalidate: func(_ context.Context, c *realtime.Conn, token string) (realtime.Identity, error) {
			id := c.Identity()
			session, _ := id.Data.(string)
			if token != "" { // sent by a client of realtime.v1
				session = token
			}
			id.ExpiresAt = sessions[session]
			if time.Now().After(id.ExpiresAt) {
				return id, realtime.ErrUnauthenticated
			}
			return id, nil
		},
	})
	defer rt.Close()
}

func ExampleTickets() {
	var tickets realtime.Tickets
	rt := realtime.New(&realtime.Options{Authenticate: tickets.Authenticate})
	defer rt.Close()
	http.Handle("GET /ws", rt)
	http.HandleFunc("POST /ticket", func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth() // replace: as you authenticate every request
		if !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		ticket, err := tickets.Issue(realtime.Identity{UserID: user})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, ticket) // the page connects to /ws?ticket=…
	})
}

func ExampleBearerToken() {
	verify := func(token string) (user string, err error) { return "alice", nil } // yours
	rt := realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			user, err := verify(realtime.BearerToken(r))
			return realtime.Identity{UserID: user}, err
		},
	})
	defer rt.Close()
}

func ExamplePipe_v1() {
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll})
	defer rt.Close()
	ctx := context.Background()
	transport, client := realtime.Pipe(realtime.V1)
	_, _ = rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	_, _, _ = client.Read(ctx) // welcome

	_ = client.Write([]byte(`{"type":"join","id":1,"room":"lobby"}`))
	reply, _, _ := client.Read(ctx)
	fmt.Println(string(reply))
	// Output: {"message_type":"reply","id":1}
}

func ExamplePipe() {
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll})
	defer rt.Close()
	transport, client := realtime.Pipe()
	_, _ = rt.Register(context.Background(), transport, realtime.Identity{UserID: "alice"})
	_, _, _ = client.Read(context.Background()) // welcome

	_ = client.Write([]byte("ping"))
	frame, _, _ := client.Read(context.Background())
	fmt.Println(string(frame))
	// Output: pong
}

// Counters are read on request. Here expvar serves them at /debug/vars.
func ExampleManager_Stats() {
	rt := realtime.New(nil)
	defer rt.Close()
	expvar.Publish("realtime", expvar.Func(func() any { return rt.Stats() }))
}

// Of a player's positions only the latest counts. A chat must not lose a message.
func ExampleRoomOptions() {
	rt := realtime.New(&realtime.Options{
		Room: func(name string) realtime.RoomOptions {
			if strings.HasPrefix(name, "positions:") {
				return realtime.RoomOptions{Slow: realtime.SlowDropOldest}
			}
			return realtime.RoomOptions{}
		},
	})
	defer rt.Close()
}

// Shutdown of the Manager comes before that of the server, which does not know open WebSockets.
func ExampleManager_Shutdown() {
	rt := realtime.New(nil)
	srv := realtime.NewServer("localhost:8080", rt)

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fmt.Println(errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx)))
	// Output: <nil>
}

// connect registers a connection in memory, as if a browser had opened it.
func connect(rt *realtime.Manager, user string) *realtime.Conn {
	transport, client := realtime.Pipe()
	go func() {
		for {
			if _, _, err := client.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	c, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: user})
	if err != nil {
		panic(err)
	}
	return c
}

// tenantKey is the key of the tenant in the context of a connection.
type tenantKey struct{}

// A handler reads a value of the request that opened the connection: here, a part of its path.
func ExampleOptions_connContext() {
	rt := realtime.New(&realtime.Options{
		ConnContext: func(ctx context.Context, r *http.Request) context.Context {
			return context.WithValue(ctx, tenantKey{}, r.PathValue("tenant")) // or chi.URLParam(r, "tenant")
		},
		OnConnect: func(ctx context.Context, _ *realtime.Conn) error {
			fmt.Println("tenant", ctx.Value(tenantKey{}))
			return nil
		},
	})
	defer rt.Close()
	mux := http.NewServeMux()
	mux.Handle("/ws/{tenant}", rt)
	srv := httptest.NewServer(mux)
	defer srv.Close()

	ws, _, err := websocket.Dial(context.Background(), srv.URL+"/ws/acme", nil)
	if err == nil {
		_ = ws.CloseNow()
	}
	// Output: tenant acme
}
