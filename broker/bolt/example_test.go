package bolt_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/bolt"
)

// A stream outlives the process. An application does not publish itself: it gives the Broker to a
// Manager, in realtime.Options.
func Example() {
	dir, err := os.MkdirTemp("", "streams")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	for _, word := range []string{`"hello"`, `"again"`} {
		broker, err := bolt.Open(filepath.Join(dir, "streams.db"), nil)
		if err != nil {
			log.Fatal(err)
		}
		_, err = broker.Publish(ctx, realtime.Publication{
			Stream:  realtime.RoomStream("lobby"),
			Target:  realtime.ToRoom("lobby"),
			Message: realtime.Message{Content: []byte(word)},
			Keep:    realtime.Retention{Messages: 100},
		})
		if err != nil {
			log.Fatal(err)
		}
		page, err := broker.Read(ctx, realtime.RoomStream("lobby"), realtime.Query{})
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range page.Publications {
			fmt.Println(p.Position.Offset, string(p.Message.Content))
		}
		if err := broker.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 1 "hello"
	// 1 "hello"
	// 2 "again"
}

// A copy is made while the store is used. Whoever opens it gets streams with new epochs.
func ExampleBroker_Backup() {
	dir, err := os.MkdirTemp("", "streams")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	broker, err := bolt.Open(filepath.Join(dir, "streams.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = broker.Close(context.Background()) }()

	f, err := os.Create(filepath.Join(dir, "copy.db"))
	if err != nil {
		log.Fatal(err)
	}
	if err := broker.Backup(context.Background(), f); err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Sync(), f.Close())
	// Output: <nil> <nil>
}
