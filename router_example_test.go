package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/realtime-go/realtime"
)

// A method for clients, with an error that clients can tell from others.
func ExampleHandle() {
	type order struct {
		Item string
		N    int
	}
	var r realtime.Router
	realtime.Handle(&r, "buy", func(_ context.Context, c *realtime.Conn, o order) (string, error) {
		if o.N > 10 {
			return "", &realtime.Error{Code: "out_of_stock", Message: "only 10 left"}
		}
		return fmt.Sprintf("%s bought %d %s", c.UserID(), o.N, o.Item), nil
	})
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnCall: r.OnCall})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"call","id":1,"method":"buy","content":{"item":"tea","n":2}}`))
	fmt.Println(alice(`{"type":"call","id":2,"method":"buy","content":{"item":"tea","n":20}}`))
	// Output:
	// {"message_type":"reply","id":1,"content":"alice bought 2 tea"}
	// {"message_type":"error","id":2,"content":{"code":"out_of_stock","message":"only 10 left"}}
}

// A message type whose messages are checked before they are sent on.
func ExampleOn() {
	type move struct{ X, Y int }
	var rt *realtime.Manager
	var r realtime.Router
	realtime.On(&r, "move", func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, m move) error {
		if m.X < 0 || m.Y < 0 {
			return &realtime.Error{Code: "off_board", Message: "not on the board"}
		}
		_, err := rt.Send(ctx, in.Target.Except(c.ID()), in.Message)
		return err
	})
	rt = realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"board","message_type":"move","content":{"x":1,"y":2}}`))
	fmt.Println(alice(`{"type":"send","id":2,"room":"board","message_type":"move","content":{"x":-1}}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"off_board","message":"not on the board"}}
}

// Middleware sees all messages and calls of all types.
func ExampleRouter_Use() {
	var r realtime.Router
	r.Use(func(next realtime.Handler) realtime.Handler {
		return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (json.RawMessage, error) {
			answer, err := next(ctx, c, in)
			fmt.Println(c.UserID(), in.Method, string(answer), err)
			return answer, err
		}
	})
	realtime.Handle(&r, "double", func(_ context.Context, _ *realtime.Conn, n int) (int, error) {
		return 2 * n, nil
	})
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnCall: r.OnCall})
	defer rt.Close()
	dialV1(rt, "alice")(`{"type":"call","id":1,"method":"double","content":21}`)
	// Output: alice double 42 <nil>
}

// The server calls a client, in a handler of that client.
func ExampleCall() {
	var r realtime.Router
	realtime.Handle(&r, "delete", func(ctx context.Context, c *realtime.Conn, file string) (string, error) {
		sure, err := realtime.Call[bool](ctx, c, "confirm", "Delete "+file+"?")
		if err != nil || !sure {
			return "kept", err
		}
		return "deleted", nil
	})
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnCall: r.OnCall})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"call","id":1,"method":"delete","content":"a.txt"}`))
	fmt.Println(alice(`{"type":"reply","id":1,"content":true}`))
	// Output:
	// {"message_type":"call","id":1,"method":"confirm","content":"Delete a.txt?"}
	// {"message_type":"reply","id":1,"content":"deleted"}
}

// dialV1 connects a client of realtime.v1. The returned function sends a frame and waits for a
// frame.
func dialV1(rt *realtime.Manager, user string) func(frame string) string {
	transport, client := realtime.Pipe(realtime.V1)
	if _, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: user}); err != nil {
		panic(err)
	}
	_, _, _ = client.Read(context.Background()) // welcome
	return func(frame string) string {
		_ = client.Write([]byte(frame))
		answer, _, err := client.Read(context.Background())
		if err != nil {
			return err.Error()
		}
		return string(answer)
	}
}
