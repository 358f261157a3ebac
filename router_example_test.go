package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/realtime-go/realtime"
)

// A Router has a handler for each type of message and for each method.
func ExampleRouter() {
	var r realtime.Router
	realtime.On(&r, "chat",
		func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, _ string) error {
			_, err := realtime.Relay(ctx, c, in)
			return err
		})
	realtime.Handle(&r, "add",
		func(_ context.Context, _ *realtime.Conn, n [2]int) (int, error) {
			return n[0] + n[1], nil
		})
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage,
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"lobby","content":"hello"}`))
	fmt.Println(alice(`{"type":"call","id":2,"method":"add","content":[1,2]}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"reply","id":2,"content":3}
}

// Messages that have no handler go to their targets, as without a Router.
func ExampleRelay() {
	var r realtime.Router
	realtime.Handle(&r, "add",
		func(_ context.Context, _ *realtime.Conn, n [2]int) (int, error) {
			return n[0] + n[1], nil
		})
	r.NotFound(realtime.Relay)
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage,
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"lobby","message_type":"note","content":"hello"}`))
	fmt.Println(alice(`{"type":"call","id":2,"method":"add","content":[1,2]}`))
	fmt.Println(alice(`{"type":"send","id":3,"server":true,"message_type":"note"}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"reply","id":2,"content":3}
	// {"message_type":"error","id":3,"content":{"code":"unknown_event","message":"unknown event \"note\""}}
}

// A method that clients can call, with an error that clients can recognise by its code.
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
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
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
	var r realtime.Router
	realtime.On(&r, "move",
		func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, m move) error {
			if m.X < 0 || m.Y < 0 {
				return &realtime.Error{Code: "off_board", Message: "not on the board"}
			}
			in.Target = in.Target.Except(c.ID())
			_, err := realtime.Relay(ctx, c, in)
			return err
		})
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage,
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	const move1 = `{"type":"send","id":1,"room":"board","message_type":"move","content":{"x":1,"y":2}}`
	const move2 = `{"type":"send","id":2,"room":"board","message_type":"move","content":{"x":-1}}`
	fmt.Println(alice(move1))
	fmt.Println(alice(move2))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"off_board","message":"not on the board"}}
}

// A message type for the server itself, which clients send with client.server.send("input", …).
func ExampleOn_server() {
	type input struct{ X, Y int }
	var r realtime.Router
	realtime.On(&r, "input",
		func(_ context.Context, c *realtime.Conn, _ realtime.Inbound, in input) error {
			fmt.Println(c.UserID(), "moves to", in.X, in.Y)
			return nil
		})
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage,
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	const move = `{"type":"send","id":1,"server":true,"message_type":"input","content":{"x":1,"y":2}}`
	fmt.Println(alice(move))
	// Output:
	// alice moves to 1 2
	// {"message_type":"reply","id":1}
}

// Middleware sees the messages and calls of all handlers that are registered after it.
func ExampleRouter_Use() {
	type conn = realtime.Conn
	var r realtime.Router
	r.Use(func(next realtime.Handler) realtime.Handler {
		return func(ctx context.Context, c *conn, in realtime.Inbound) (any, error) {
			answer, err := next(ctx, c, in)
			fmt.Println(c.UserID(), in.Method, answer, err)
			return answer, err
		}
	})
	realtime.Handle(&r, "double", func(_ context.Context, _ *realtime.Conn, n int) (int, error) {
		return 2 * n, nil
	})
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
	defer rt.Close()
	dialV1(rt, "alice")(`{"type":"call","id":1,"method":"double","content":21}`)
	// Output: alice double 42 <nil>
}

// A handler calls its client.
func ExampleCall() {
	var r realtime.Router
	realtime.Handle(&r, "delete",
		func(ctx context.Context, c *realtime.Conn, file string) (string, error) {
			sure, err := realtime.Call[bool](ctx, c, "confirm", "Delete "+file+"?")
			if err != nil || !sure {
				return "kept", err
			}
			return "deleted", nil
		})
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"call","id":1,"method":"delete","content":"a.txt"}`))
	fmt.Println(alice(`{"type":"reply","id":1,"content":true}`))
	// Output:
	// {"message_type":"call","id":1,"method":"confirm","content":"Delete a.txt?"}
	// {"message_type":"reply","id":1,"content":"deleted"}
}

// A call outside of a handler, whose answer is JSON that the application decodes by itself.
func ExampleCall_rawJSON() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	c, client := open(rt, "alice", realtime.V1)
	defer client.Drop()
	go func() { // the client
		call, _, _ := client.Read(ctx)
		fmt.Println(string(call))
		_ = client.Write([]byte(`{"type":"reply","id":1,"content":"Europe/Vienna"}`))
	}()

	answer, err := realtime.Call[json.RawMessage](ctx, c, "timezone", nil)
	fmt.Println(string(answer), err)
	// Output:
	// {"message_type":"call","id":1,"method":"timezone"}
	// "Europe/Vienna" <nil>
}

// OnMessage decides what is sent to whom. Without it, each message goes to its target.
func ExampleHandler() {
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll,
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			if strings.Contains(string(in.Message.Content), "darn") {
				return nil, &realtime.Error{Code: "language", Message: "mind your language"}
			}
			in.Target = in.Target.Except(c.ID())
			return realtime.Relay(ctx, c, in)
		},
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"lobby","content":"hello"}`))
	fmt.Println(alice(`{"type":"send","id":2,"room":"lobby","content":"darn"}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"language","message":"mind your language"}}
}

// dialV1 connects a client of realtime.v1. The returned function sends a frame and waits for a
// frame.
func dialV1(rt *realtime.Manager, user string) func(frame string) string {
	_, client := open(rt, user, realtime.V1)
	frames := make(chan string, 10)
	go func() { // reads until the end, so that Close need not wait for the client
		defer close(frames)
		for {
			frame, _, err := client.Read(context.Background())
			if err != nil {
				return
			}
			frames <- string(frame)
		}
	}()
	return func(frame string) string {
		_ = client.Write([]byte(frame))
		return <-frames
	}
}
