package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// exampleServer starts a server with one method. Every user may do everything.
func exampleServer() (url string, stop func()) {
	var r realtime.Router
	r.NotFound(realtime.Relay)
	realtime.Handle(&r, "add", func(_ context.Context, _ *realtime.Conn, terms []int) (sum int, err error) {
		if len(terms) == 0 {
			return 0, &realtime.Error{Code: "no_terms", Message: "nothing to add"}
		}
		for _, term := range terms {
			sum += term
		}
		return sum, nil
	})
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		Authorize:    realtime.InsecureAllowAll,
		OnMessage:    r.OnMessage,
		Show:         realtime.ShowMembers,
	})
	s := httptest.NewServer(rt)
	return s.URL + "/?user_id=alice", func() { _ = rt.Close(); s.Close() }
}

// A client joins a room and sends a message. It joins the room again after every reconnect.
func ExampleDial() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()

	c, err := client.Dial(ctx, url, &client.DialOptions{
		// Token is called for each attempt.
		Token: func(context.Context) (string, error) { return "secret", nil },
	})
	if err != nil {
		fmt.Println(err) // the server refused, or ctx ended
		return
	}
	defer c.Close()
	if err := c.Join(ctx, "lobby"); err != nil {
		fmt.Println(err)
		return
	}
	err = c.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{Content: json.RawMessage(`"hello"`)})
	fmt.Println("sent:", err)
	who, _ := c.FetchPresence(ctx, "lobby")
	fmt.Println("here:", who.UserCount)
	// Output:
	// sent: <nil>
	// here: 1
}

// The stream yields an error where messages may be missing, and a last one when the client has
// ended.
func ExampleClient_Messages() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()
	c, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = c.Join(ctx, "lobby")
	_ = c.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{Content: json.RawMessage(`"hello"`)})
	_ = c.Close()

	for msg, err := range c.Messages() {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			fmt.Println("load again what may be missing:", gap)
			continue
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s in %s: %s\n", msg.Sender, msg.Room, msg.Content)
	}
	// Output:
	// alice in lobby: "hello"
	// realtime: closed
}

// A client learns who is in a room, and says something about itself.
func ExampleClient_Presence() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()
	seen := make(chan string, 10)
	alice, err := client.Dial(ctx, url, &client.DialOptions{
		OnPresence: func(room string, now client.Presence, change client.PresenceChange) {
			for _, m := range change.Updated {
				seen <- fmt.Sprintf("%s in %s: %s", m.User, room, m.State)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer alice.Close()
	// The state is part of the join, and the client sends the newest one with each later join.
	type State struct {
		Typing bool `json:"typing"`
	}
	_ = alice.JoinWith(ctx, "lobby", client.JoinOptions{Presence: true, State: State{}})
	if err := alice.SetState("lobby", State{Typing: true}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-seen)

	now, ok := alice.Presence("lobby") // sends nothing
	fmt.Println(ok, now.UserCount, now.Members[0].Me)
	for _, u := range now.Users() {
		fmt.Println(u.User, len(u.Members), u.Away)
	}
	// Output:
	// alice in lobby: {"typing":true}
	// true 1 true
	// alice 1 false
}

// The loop gets the newest value of each key when it is ready, and never the ones in between. A
// client that joins later gets the newest values first.
func ExampleClient_Messages_latest() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()
	alice, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer alice.Close()
	_ = alice.Join(ctx, "board")
	for x := range 100 {
		shape, _ := realtime.NewMessage("shape", x)
		shape.Latest = "shape/7"
		_ = alice.Send(ctx, realtime.ToRoom("board"), shape) // does not wait for the server
	}
	_, _ = alice.Ping(ctx) // the server has them all

	bob, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bob.Close()
	_ = bob.Join(ctx, "board")
	for m := range bob.Messages() {
		fmt.Println(m.Type, m.Latest, string(m.Content))
		break
	}
	// Output:
	// shape shape/7 99
}

// A client answers the device that a message came from, and not all devices of its user.
func ExampleMessage() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()
	laptop, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer laptop.Close()
	phone, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer phone.Close()

	question, _ := realtime.NewMessage("question", "who is there?")
	_ = laptop.Send(ctx, realtime.ToUser("alice"), question) // to both
	for msg := range phone.Messages() {
		answer, _ := realtime.NewMessage("answer", "the phone")
		_ = phone.Send(ctx, realtime.ToConn(msg.Conn), answer)
		break
	}
	for msg := range laptop.Messages() {
		fmt.Println(msg.Type, string(msg.Content))
		if msg.Type == "answer" {
			break
		}
	}
	// Output:
	// question "who is there?"
	// answer "the phone"
}

// A gap names its room, and the reason if messages of the room are lost.
func ExampleGapError() {
	err := error(&client.GapError{
		Room: "lobby", Reason: realtime.ReasonExpired,
		From: realtime.Position{Epoch: "a", Offset: 7}, To: realtime.Position{Epoch: "a", Offset: 9},
	})
	if gap, ok := errors.AsType[*client.GapError](err); ok {
		fmt.Println(gap)
		fmt.Printf("%s: lost after %d, up to %d\n", gap.Room, gap.From.Offset, gap.To.Offset)
	}
	// Output:
	// realtime: messages may be missing in room "lobby": expired
	// lobby: lost after 7, up to 9
}

// A call returns a value, or an error with a code.
func ExampleCall() {
	ctx := context.Background()
	url, stop := exampleServer()
	defer stop()
	c, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	sum, err := client.Call[int](ctx, c, "add", []int{1, 2, 3})
	fmt.Println(sum, err)
	_, err = client.Call[int](ctx, c, "add", []int{})
	if e, ok := errors.AsType[*realtime.Error](err); ok {
		fmt.Println(e.Code)
	}
	// Output:
	// 6 <nil>
	// no_terms
}
