package memory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/memory"
)

// A Manager keeps streams in memory with bounds that the application chooses.
func ExampleNew() {
	rt := realtime.New(&realtime.Options{
		Broker:  memory.New(&memory.Options{Bytes: 64 << 20, InboxBytes: 32 << 20}),
		History: realtime.Retention{Messages: 100},
	})
	defer rt.Close()
	ctx := context.Background()
	m := realtime.Message{Content: json.RawMessage(`"hello"`)}
	if _, err := rt.Send(ctx, realtime.ToRoom("lobby"), m); err != nil {
		log.Fatal(err)
	}
	h, err := rt.Room("lobby").History(ctx, realtime.HistoryQuery{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(h.Messages[0].Content))
	// Output: "hello"
}
