// Command chat is a chat with rooms, private messages, and a list of who is there and who is typing,
// on one page without a build step. A second page, /plain, uses no library. Rooms keep history, and
// inboxes keep messages for absent users. With -data FILE both survive a restart.
//
// It is a demonstration: any user can take any name and may do anything.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/bolt"
)

//go:embed page.html plain.html
var pages embed.FS

func main() {
	addr := flag.String("addr", "localhost:8080", "address to listen on")
	opts := realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		Authorize:    realtime.InsecureAllowAll,
		History:      realtime.Retention{Messages: 1000},
		Inbox:        realtime.InboxOptions{Keep: realtime.Retention{Messages: 100}},
	}
	flag.DurationVar(&opts.Timeouts.Stale, "stale-after", 300*time.Second, "silence that ends a connection")
	flag.DurationVar(&opts.Timeouts.Sweep, "sweep", 60*time.Second, "how often to check for silence")
	flag.IntVar(&opts.Limits.InboundRate, "inbound-rate", 200, "messages per second; negative: no limits on input")
	announce := flag.Bool("announce", true, "announce joins and leaves")
	data := flag.String("data", "", "file for history and inboxes (default: in memory)")
	flag.Parse()
	if *data != "" {
		store, err := bolt.Open(*data, nil)
		if err != nil {
			log.Fatal(err)
		}
		opts.Broker = store
	}
	opts.Limits.InboundBytes, opts.Limits.InboundFanout = min(opts.Limits.InboundRate, 0), min(opts.Limits.InboundRate, 0)
	if *announce {
		opts.Show, opts.AnnounceUsers = realtime.ShowMembers, true
	}
	rt := realtime.New(&opts)
	api := rt.API(realtime.InsecureAllowRequests)
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	for _, path := range []string{"/connections/", "/rooms/", "/stats"} {
		mux.Handle(path, api)
	}
	mux.Handle("GET /realtime.js", rt.ClientJS())
	for pattern, page := range map[string]string{"GET /{$}": "page.html", "GET /plain": "plain.html"} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, pages, page)
		})
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	srv := realtime.NewServer(*addr, mux)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx)) // in this order
	}()
	log.Print("this is a demonstration: it uses InsecureQueryUser and InsecureAllowAll")
	log.Print("open http://" + *addr + " in two tabs")
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
