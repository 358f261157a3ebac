package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

// A server for browsers. Its users have a session cookie, and may send to rooms.
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
				return nil // check here that c.UserID() may send to a.Target.Rooms[0]
			}
			return realtime.ErrForbidden
		},
	})
	defer rt.Close()

	mux := http.NewServeMux()
	mux.Handle("GET /ws", rt)

	response := httptest.NewRecorder() // to a request without a cookie
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/ws", nil))
	fmt.Println(response.Code, response.Body)
	// Output: 401 {"error":"not authenticated"}
}

// userOfSession stands for a look-up in the sessions of an application.
func userOfSession(string) string { return "alice" }

// NewServer sets the limits that a server of long-lived connections needs.
func ExampleNewServer() {
	rt := realtime.New(nil)
	defer rt.Close()
	srv := realtime.NewServer("localhost:8080", rt)
	fmt.Println(srv.Addr, srv.ReadHeaderTimeout, srv.IdleTimeout) // srv.ListenAndServe() starts it
	// Output: localhost:8080 5s 1m0s
}

// The Manager is shut down before the server, which does not know its WebSockets.
func ExampleManager_Shutdown() {
	rt := realtime.New(nil)
	srv := realtime.NewServer("localhost:8080", rt)

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fmt.Println(errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx)))
	// Output: <nil>
}

// The REST interface works under any prefix.
func ExampleManager_API() {
	rt := realtime.New(nil)
	defer rt.Close()
	adminsOnly := func(r *http.Request, _ realtime.Action) error {
		if _, password, ok := r.BasicAuth(); !ok || password != "secret" {
			return realtime.ErrForbidden
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", rt.API(adminsOnly))

	request := httptest.NewRequest(http.MethodGet, "/api/rooms/lobby/users", nil)
	for _, password := range []string{"guess", "secret"} {
		request.SetBasicAuth("admin", password)
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, request)
		fmt.Print(response.Code, " ", response.Body)
	}
	// Output:
	// 403 {"error":"forbidden"}
	// 200 {"room_id":"lobby","users":[],"user_count":0}
}

// OnConnect puts connections into rooms, or refuses them.
func ExampleConnectFunc() {
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			if c.UserID() == "" {
				return errors.New("guests may not connect")
			}
			_, err := rt.Join(ctx, c.ID(), "lobby")
			return err
		},
	})
	defer rt.Close()

	for _, user := range []string{"alice", ""} {
		transport, client := realtime.Pipe()
		defer client.Drop()
		c, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: user})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(c.Rooms())
	}
	// Output:
	// [lobby]
	// guests may not connect
}

// OnDisconnect is told why a connection ended.
func ExampleDisconnectFunc() {
	rt := realtime.New(&realtime.Options{
		OnDisconnect: func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
			fmt.Println(c.UserID(), why.Cause, int(why.Code), why.Reason)
		},
	})
	c := connect(rt, "alice")
	_ = c.Close(realtime.CloseNormal, "good night")
	_ = rt.Shutdown(context.Background()) // waits for OnDisconnect
	// Output: alice server 1000 good night
}

// OnRoom starts something when a room opens, and stops it when the room is empty.
func ExampleRoomEvent() {
	rt := realtime.New(&realtime.Options{
		OnRoom: func(_ context.Context, e realtime.RoomEvent) {
			if e.Opened {
				fmt.Println("start", e.Room)
			}
			fmt.Println(e.Conn.UserID(), e.Kind, e.Count.Conns)
			if e.Emptied {
				fmt.Println("stop", e.Room)
			}
		},
	})
	for _, user := range []string{"alice", "bob"} {
		c := connect(rt, user)
		_, _ = rt.Join(context.Background(), c.ID(), "game")
	}
	_, _ = rt.Room("game").Remove(context.Background(), "alice")
	_, _ = rt.Room("game").Remove(context.Background(), "bob")
	_ = rt.Shutdown(context.Background()) // waits for OnRoom
	// Output:
	// start game
	// alice joined 1
	// bob joined 2
	// alice left 1
	// bob left 0
	// stop game
}

// tenantKey is the key of the tenant in the context of a connection.
type tenantKey struct{}

// A handler reads a value of the request that opened the connection: here, a part of its path.
func ExampleOptions_connContext() {
	rt := realtime.New(&realtime.Options{
		ConnContext: func(ctx context.Context, r *http.Request) context.Context {
			// With chi: chi.URLParam(r, "tenant")
			return context.WithValue(ctx, tenantKey{}, r.PathValue("tenant"))
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
