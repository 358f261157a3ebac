package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// historyServer starts a server whose rooms keep history, with three messages in the lobby.
func historyServer() (rt *realtime.Manager, url string, stop func()) {
	rt = realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		Authorize:    realtime.InsecureAllowAll,
		History:      realtime.Retention{Messages: 100},
	})
	s := httptest.NewServer(rt)
	publish(rt, "one", "two", "three")
	return rt, s.URL + "/?user_id=alice", func() { _ = rt.Close(); s.Close() }
}

// publish sends messages to the lobby.
func publish(rt *realtime.Manager, words ...string) {
	for _, word := range words {
		content, _ := json.Marshal(word)
		_, _ = rt.Send(context.Background(), realtime.ToRoom("lobby"), realtime.Message{Content: content})
	}
}

// A client joins a room with the newest messages that it keeps, and then receives new ones.
func ExampleClient_JoinWith() {
	ctx := context.Background()
	rt, url, stop := historyServer()
	defer stop()
	c, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	if err := c.JoinWith(ctx, "lobby", client.JoinOptions{From: realtime.From{Last: 2}}); err != nil {
		fmt.Println(err)
		return
	}
	publish(rt, "four")
	for range 3 {
		msg, err := c.Receive(ctx)
		fmt.Println(string(msg.Content), err)
	}
	// Output:
	// "two" <nil>
	// "three" <nil>
	// "four" <nil>
}

// Pages of history go back from the newest message to the oldest one.
func ExampleClient_History() {
	ctx := context.Background()
	_, url, stop := historyServer()
	defer stop()
	c, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	page := client.History{More: true}
	for query := (client.HistoryQuery{Limit: 2}); page.More; {
		page, err = c.History(ctx, "lobby", query)
		if err != nil || len(page.Messages) == 0 {
			break
		}
		for _, msg := range slices.Backward(page.Messages) {
			fmt.Println(string(msg.Content))
		}
		query.Before = page.Messages[0].Position
	}
	fmt.Println(err)
	// Output:
	// "three"
	// "two"
	// "one"
	// <nil>
}

// A receipt contains the position of the message in the room.
func ExampleClient_SendReceipt() {
	ctx := context.Background()
	_, url, stop := historyServer()
	defer stop()
	c, err := client.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	msg := realtime.Message{Content: json.RawMessage(`"four"`)}
	receipt, err := c.SendReceipt(ctx, realtime.ToRoom("lobby"), msg)
	if err != nil {
		fmt.Println(err)
		return
	}
	page, err := c.History(ctx, "lobby", client.HistoryQuery{Limit: 1})
	fmt.Println(page.Top == receipt.Position, err)
	// Output: true <nil>
}

// Messages that were sent while there was no connection arrive after the reconnect. The gap without
// a room concerns messages that are not kept.
func ExampleRecovery() {
	ctx := context.Background()
	rt, url, stop := historyServer()
	defer stop()
	recovered := make(chan client.Recovery, 1)
	c, err := client.Dial(ctx, url, &client.DialOptions{
		OnRecover: func(r client.Recovery) { recovered <- r },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := c.Join(ctx, "lobby"); err != nil {
		fmt.Println(err)
		return
	}

	_, _ = rt.User("alice").Disconnect(ctx, realtime.CloseRestart, "")
	publish(rt, "four", "five")
	fmt.Println(<-recovered)
	for range 3 {
		msg, err := c.Receive(ctx)
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			fmt.Printf("gap of room %q\n", gap.Room)
			continue
		}
		fmt.Println(string(msg.Content), err)
	}
	// Output:
	// {lobby 2}
	// gap of room ""
	// "four" <nil>
	// "five" <nil>
}
