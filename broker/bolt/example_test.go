package bolt_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// A stream outlives the process. An application does not call Publish: it passes the Broker to a
// Manager, in realtime.Options.
func Example() {
	dir, err := os.MkdirTemp("", "streams")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	for _, word := range []string{`"hello"`, `"again"`} {
		store, err := bolt.Open(filepath.Join(dir, "streams.db"), nil)
		if err != nil {
			log.Fatal(err)
		}
		_, err = store.Publish(ctx, broker.Publication{
			Stream:  broker.RoomStream("lobby"),
			Target:  broker.Target{Rooms: []string{"lobby"}},
			Message: broker.Message{Content: []byte(word)},
			Keep:    broker.Retention{Messages: 100},
		})
		if err != nil {
			log.Fatal(err)
		}
		page, err := store.Read(ctx, broker.RoomStream("lobby"), broker.Query{})
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range page.Publications {
			fmt.Println(p.Position.Offset, string(p.Message.Content))
		}
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 1 "hello"
	// 1 "hello"
	// 2 "again"
}

// Backup makes a copy while the store is used. A store opened from the copy has new epochs.
func ExampleBroker_Backup() {
	dir, err := os.MkdirTemp("", "streams")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	store, err := bolt.Open(filepath.Join(dir, "streams.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close(context.Background()) }()

	f, err := os.Create(filepath.Join(dir, "copy.db"))
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Backup(context.Background(), f); err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Sync(), f.Close())
	// Output: <nil> <nil>
}
