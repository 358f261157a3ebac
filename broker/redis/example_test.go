package redis_test

import (
	"log"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/redis"
)

// Processes with the same options and the same server are nodes of one cluster.
func Example() {
	bus, err := redis.New(&redis.Options{Addrs: []string{"localhost:6379"}, Prefix: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	rt := realtime.New(&realtime.Options{
		Broker: bus, History: realtime.Retention{Messages: 1000},
	})
	defer rt.Close() // closes the broker, too
}
