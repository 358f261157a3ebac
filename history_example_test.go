package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/realtime-go/realtime"
)

// A room keeps its messages, and History returns the newest ones.
func ExampleRoom_History() {
	rt := realtime.New(&realtime.Options{History: realtime.Retention{Messages: 100}})
	defer rt.Close()
	ctx := context.Background()
	for _, word := range []string{`"one"`, `"two"`, `"three"`} {
		m := realtime.Message{Content: json.RawMessage(word)}
		if _, err := rt.Send(ctx, realtime.ToRoom("lobby"), m); err != nil {
			log.Fatal(err)
		}
	}
	page, err := rt.Room("lobby").History(ctx, realtime.HistoryQuery{Limit: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range page.Messages {
		fmt.Println(m.Position.Offset, string(m.Content))
	}
	fmt.Println("more:", page.More)
	// Output:
	// 2 "two"
	// 3 "three"
	// more: true
}

// A new member gets the newest two messages first.
func ExampleConn_JoinFrom() {
	rt := realtime.New(&realtime.Options{History: realtime.Retention{Messages: 100}})
	defer rt.Close()
	ctx := context.Background()
	for _, word := range []string{`"one"`, `"two"`, `"three"`} {
		m := realtime.Message{Content: json.RawMessage(word)}
		if _, err := rt.Send(ctx, realtime.ToRoom("lobby"), m); err != nil {
			log.Fatal(err)
		}
	}
	transport, client := realtime.Pipe()
	defer client.Drop()
	c, err := rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	joined, err := c.JoinFrom(ctx, "lobby", realtime.From{Last: 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("after", joined.At.Offset, "of", joined.Top)
	for range 3 {
		frame, _, _ := client.Read(ctx)
		var m struct {
			Type    string          `json:"message_type"`
			Content json.RawMessage `json:"content"`
		}
		_ = json.Unmarshal(frame, &m)
		if m.Type == "chat" {
			fmt.Println(string(m.Content))
		}
	}
	// Output:
	// after 1 of 3
	// "two"
	// "three"
}

// A message to a user who is offline waits in the inbox, and the application sends a push
// notification.
func ExampleInboxOptions() {
	rt := realtime.New(&realtime.Options{Inbox: realtime.InboxOptions{
		Keep: realtime.Retention{Messages: 100},
		Exists: func(_ context.Context, user string) (bool, error) {
			return user == "bob", nil // ask the database
		},
		OnOffline: func(_ context.Context, user string, m realtime.Message) {
			fmt.Println("push to", user, string(m.Content)) // or put it into a queue
		},
	}})
	defer rt.Close()
	call := realtime.Message{Sender: "alice", Content: json.RawMessage(`"call me"`)}
	res, err := rt.Send(context.Background(), realtime.ToUser("bob", "nobody"), call)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("offline:", res.Offline, "kept:", res.Kept)
	// Output:
	// push to bob "call me"
	// offline: 2 kept: 1
}

// A message that is sent again with the same id is kept once.
func ExampleResult() {
	rt := realtime.New(&realtime.Options{History: realtime.Retention{Messages: 100}})
	defer rt.Close()
	order := realtime.Message{Sender: "shop", ID: "order-1", Content: json.RawMessage(`{"sum":5}`)}
	for range 2 {
		res, err := rt.Send(context.Background(), realtime.ToRoom("orders"), order)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(res.Position.Offset, res.Duplicate)
	}
	// Output:
	// 1 false
	// 1 true
}
