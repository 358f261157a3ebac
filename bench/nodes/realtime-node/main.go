// Command realtime-node serves the benchmark of nodes with this library: rooms keep messages and show
// their members, and all nodes share the Redis with the address in BENCH_REDIS.
package main

import (
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/bench/serve"
	"github.com/realtime-go/realtime/broker/redis"
)

func main() {
	store, err := redis.New(&redis.Options{Addrs: []string{os.Getenv(serve.RedisEnv)}, Prefix: "bench"})
	if err != nil {
		log.Fatal(err)
	}
	rt := realtime.New(&realtime.Options{
		Broker:    store,
		Authorize: realtime.InsecureAllowAll,
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			return realtime.Identity{UserID: serve.Identity(r).User}, nil
		},
		Show:    realtime.ShowMembers,
		History: realtime.Retention{Messages: serve.HistorySize, Age: serve.HistoryTime},
		// The peer limits neither what clients may send, nor how often they connect, and its clients
		// resume nothing but positions.
		Limits: realtime.Limits{
			InboundRate: -1, InboundBytes: -1, HandshakeRate: -1, HandshakeRatePerIP: -1, ConnsPerIP: -1,
			Conns: -1, RoomsPerConn: -1,
		},
		Timeouts: realtime.Timeouts{Resume: time.Millisecond},
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	serve.Run("realtime.v1", rt, "github.com/realtime-go/realtime", "github.com/redis/rueidis")
}
