// Command centrifuge-node serves the benchmark of nodes with centrifuge: channels have history,
// recovery and presence, and all nodes share the Redis with the address in BENCH_REDIS.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/centrifugal/centrifuge"

	"github.com/realtime-go/realtime/bench/serve"
)

func main() {
	node, err := centrifuge.New(centrifuge.Config{ClientChannelLimit: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	if err := useRedis(node, os.Getenv(serve.RedisEnv)); err != nil {
		log.Fatal(err)
	}
	node.OnConnect(handle)
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	h := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{UseWriteBufferPool: true})
	serve.Run("centrifuge", identify(h), "github.com/centrifugal/centrifuge", "github.com/redis/rueidis")
}

func useRedis(node *centrifuge.Node, addr string) error {
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: addr})
	if err != nil {
		return err
	}
	shards := []*centrifuge.RedisShard{shard}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: shards})
	if err != nil {
		return err
	}
	presence, err := centrifuge.NewRedisPresenceManager(node,
		centrifuge.RedisPresenceManagerConfig{Shards: shards})
	if err != nil {
		return err
	}
	node.SetBroker(broker)
	node.SetPresenceManager(presence)
	return nil
}

func handle(c *centrifuge.Client) {
	c.OnSubscribe(func(e centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
		reply(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{
			EnablePositioning: true, EnableRecovery: true,
			// A client that watches hears of who comes and goes, as one of ours does that asked for it.
			EmitPresence: true, EmitJoinLeave: true, PushJoinLeave: e.JoinLeave,
		}}, nil)
	})
	c.OnPublish(func(_ centrifuge.PublishEvent, reply centrifuge.PublishCallback) {
		reply(centrifuge.PublishReply{Options: centrifuge.PublishOptions{
			HistorySize: serve.HistorySize, HistoryTTL: serve.HistoryTime,
		}}, nil)
	})
}

// identify is the authentication middleware that centrifuge requires.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := centrifuge.SetCredentials(context.WithoutCancel(r.Context()),
			&centrifuge.Credentials{UserID: serve.Identity(r).User})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
