// Command cluster is a chat on three processes behind a balancer, which share a server of Redis. Its
// page shows to which process a tab is connected, and has a button that kills each process: the chat
// goes on.
//
// It is a demonstration: any user can take any name and may do anything.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/realtime-go/realtime"
)

//go:embed page.html
var page []byte

func main() {
	addr := flag.String("addr", "localhost:8080", "address of the page")
	var o nodeOptions
	flag.StringVar(&o.redis, "redis", "", "address of a Redis (default: starts one)")
	flag.DurationVar(&o.resume, "resume", 15*time.Second, "how long lost connections count as present")
	flag.BoolVar(&o.durable, "durable", false, "the Redis loses nothing that it has acknowledged")
	flag.StringVar(&o.name, "node", "", "name of a node: the command uses this itself")
	flag.Parse()
	if o.name != "" {
		runNode(o)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, o); err != nil {
		stop()
		log.Fatal(err)
	}
}

// run serves the page until ctx ends, and then ends everything that it has started.
func run(ctx context.Context, addr string, o nodeOptions) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	if o.redis == "" {
		server, err := startRedis(os.Stderr)
		if err != nil {
			return err
		}
		defer server.end()
		o.redis, o.durable = server.addr, true
	}
	b := &balancer{}
	defer b.stop()
	if err := b.start(o, os.Stderr); err != nil {
		return err
	}
	srv := realtime.NewServer(addr, site(b))
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	log.Print("this is a demonstration: it uses InsecureQueryUser and InsecureAllowAll")
	log.Print("open http://" + l.Addr().String() + " in three tabs")
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// site serves the page and its buttons. The nodes serve everything else.
func site(b *balancer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(b.states())
	})
	mux.HandleFunc("POST /nodes/{name}/{do}", func(w http.ResponseWriter, r *http.Request) {
		n := b.node(r.PathValue("name"))
		acts := map[string]func(*node) error{"kill": (*node).kill, "start": (*node).start}
		act := acts[r.PathValue("do")]
		if n == nil || act == nil {
			http.NotFound(w, r)
			return
		}
		if err := act(n); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("/", b.proxy())
	return http.NewCrossOriginProtection().Handler(mux) // no other page may kill a node
}
