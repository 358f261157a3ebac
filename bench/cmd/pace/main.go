// Command pace measures how old the values are that clients show: near and far, fast and slow. A
// server sends one value each 33 ms, as a plain message or as a latest value, over real sockets and a
// proxy that delays and limits them. The clients are of package client.
//
//	go run ./bench/cmd/pace
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

const (
	interval = 33 * time.Millisecond
	size     = 40 // bytes of a value; with its envelope it takes about 200 on the wire
)

// path is the way to a client, and how fast the client is.
type path struct {
	name      string
	delay     time.Duration // one way
	bandwidth int           // to the client, in bytes a second; 0: no limit
	handles   time.Duration // for each value
}

var paths = []path{
	{"RTT 0", 0, 0, 0},
	{"RTT 100 ms", 50 * time.Millisecond, 0, 0},
	{"RTT 250 ms", 125 * time.Millisecond, 0, 0},
	{"RTT 0, handles 10/s", 0, 0, 100 * time.Millisecond},
	{"RTT 100 ms, handles 10/s", 50 * time.Millisecond, 0, 100 * time.Millisecond},
	{"RTT 250 ms, handles 10/s", 125 * time.Millisecond, 0, 100 * time.Millisecond},
	{"RTT 50 ms, 2 KB/s", 25 * time.Millisecond, 2000, 0},
}

// result is what one client has shown in the second half of a run.
type result struct {
	ages  []time.Duration
	first time.Time
	last  time.Time
}

func main() {
	length := flag.Duration("for", time.Minute, "how long values are sent")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelError)
	fmt.Printf("A value each %v for %v; the second half counts.\n\n", interval, *length)
	fmt.Println("| client | messages: age p50, p99, values/s | latest values: age p50, p99, values/s |")
	fmt.Println("|---|---|---|")
	results := make([][2]result, len(paths))
	var runs sync.WaitGroup
	for kind := range 2 {
		for i, p := range paths {
			runs.Go(func() {
				r, err := measure(p, kind == 1, *length)
				if err != nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
					os.Exit(1)
				}
				results[i][kind] = r
			})
		}
		runs.Wait()
	}
	for i, p := range paths {
		fmt.Printf("| %s | %s | %s |\n", p.name, results[i][0].text(), results[i][1].text())
	}
}

func (r *result) text() string {
	if len(r.ages) < 2 {
		return "–"
	}
	slices.Sort(r.ages)
	at := func(part float64) int64 {
		return r.ages[int(part*float64(len(r.ages)-1))].Milliseconds()
	}
	rate := float64(len(r.ages)-1) / r.last.Sub(r.first).Seconds()
	return fmt.Sprintf("%d ms, %d ms, %.0f", at(0.5), at(0.99), rate)
}

// measure sends values to one client.
func measure(p path, latest bool, length time.Duration) (r result, err error) {
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, Authenticate: realtime.InsecureQueryUser,
		Slow: realtime.SlowDropOldest, // so that a client of messages is not closed
	})
	defer rt.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	server := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	way, err := newProxy(listener.Addr().String(), p.delay, p.bandwidth)
	if err != nil {
		return r, err
	}
	defer way.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := client.Dial(ctx, "ws://"+way.addr()+"/?user_id=alice", &client.DialOptions{
		QueueMessages: -1,
	})
	if err != nil {
		return r, err
	}
	defer c.Close()
	if err := c.Join(ctx, "game"); err != nil {
		return r, err
	}
	began := time.Now()
	go send(ctx, rt, latest)
	time.AfterFunc(length, cancel)
	for {
		msg, err := c.Receive(ctx)
		if ctx.Err() != nil {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		now := time.Now()
		if now.Sub(began) > length/2 {
			r.note(now, msg.Content)
		}
		time.Sleep(p.handles)
	}
}

// note counts a value that is shown now.
func (r *result) note(now time.Time, content json.RawMessage) {
	var text string
	_ = json.Unmarshal(content, &text)
	stamp, _, _ := strings.Cut(text, " ")
	sent, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return
	}
	if r.ages = append(r.ages, now.Sub(sent)); len(r.ages) == 1 {
		r.first = now
	}
	r.last = now
}

// send sends values to the room until ctx ends.
func send(ctx context.Context, rt *realtime.Manager, latest bool) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		text := time.Now().Format(time.RFC3339Nano) + strings.Repeat(" ", size)
		msg, err := realtime.NewMessage("view", text)
		if err != nil {
			panic(err)
		}
		if latest {
			msg.Latest = "view"
		}
		_, _ = rt.Send(ctx, realtime.ToRoom("game"), msg)
		<-ticker.C
	}
}
