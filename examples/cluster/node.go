package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/redis"
)

// nodeOptions are what all nodes have in common, and the name of one.
type nodeOptions struct {
	name    string
	redis   string
	resume  time.Duration
	durable bool
}

// args are the arguments of the command that runs the node.
func (o nodeOptions) args() []string {
	return []string{
		"-node", o.name, "-redis", o.redis, "-resume", o.resume.String(),
		fmt.Sprintf("-durable=%t", o.durable),
	}
}

// manager returns the Manager of a node. Except for its name, all nodes have the same options.
func (o nodeOptions) manager() (*realtime.Manager, error) {
	bus, err := redis.New(&redis.Options{
		Addrs: []string{o.redis}, Prefix: "cluster-example", Durable: o.durable,
	})
	if err != nil {
		return nil, err
	}
	info, err := json.Marshal(map[string]string{"node": o.name})
	if err != nil {
		return nil, err
	}
	return realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			id, err := realtime.InsecureQueryUser(r)
			id.Info = info // what the page shows of each member
			return id, err
		},
		Authorize:    realtime.InsecureAllowAll,
		Show:         realtime.ShowMembers,
		History:      realtime.Retention{Messages: 10_000, Bytes: 16 << 20},
		TrustProxies: []string{"127.0.0.1", "::1"}, // the balancer
		Timeouts:     realtime.Timeouts{Resume: o.resume},
		Broker:       bus,
	}), nil
}

// runNode serves until SIGTERM comes or the process that has started it is gone. It writes its
// address to the standard output.
func runNode(o nodeOptions) {
	log.SetPrefix(o.name + ": ")
	signal.Ignore(os.Interrupt) // a terminal sends it to all; the parent decides who ends when
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	rt, err := o.manager()
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("GET /realtime.js", rt.ClientJS())
	srv := realtime.NewServer("", mux)
	done := make(chan error)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx)) // in this order
	}()
	fmt.Println(l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-done; err != nil {
		log.Fatal(err)
	}
}
