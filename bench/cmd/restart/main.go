//go:build linux

// Command restart measures how long the clients of a server are disconnected when it is restarted:
// after SIGTERM, which makes it shut down gracefully, and after SIGKILL. A supervisor starts the
// next server as soon as the old one has ended.
//
//	go run ./bench/cmd/restart -clients 1000 -repeats 3
//
// It prints the median and the 90th percentile of the times from the signal until a client is
// connected again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

const addr = "127.0.0.1:18099"

func main() {
	clients := flag.Int("clients", 1000, "number of clients")
	repeats := flag.Int("repeats", 3, "number of measurements of each kind, in turns")
	serves := flag.Bool("serve", false, "be the server")
	limit := flag.Float64("limit", 0,
		"fail if the ratio of graceful to killed is larger; 0 means never")
	flag.Parse()
	if *serves {
		serve()
		return
	}
	var graceful, killed result
	for range *repeats {
		graceful.add(measure(*clients, syscall.SIGTERM))
		killed.add(measure(*clients, syscall.SIGKILL))
	}
	fmt.Printf("%-10s %8s %8s\n", "seconds", "median", "90 %")
	for _, r := range []struct {
		name string
		result
	}{{"graceful", graceful}, {"killed", killed}} {
		fmt.Printf("%-10s %8.2f %8.2f\n", r.name, r.median(), r.most())
	}
	ratios := [2]float64{graceful.median() / killed.median(), graceful.most() / killed.most()}
	fmt.Printf("%-10s %8.2f %8.2f\n", "ratio", ratios[0], ratios[1])
	if *limit > 0 && max(ratios[0], ratios[1]) > *limit {
		fmt.Println("the ratio exceeds the limit")
		os.Exit(1)
	}
}

// serve runs a typical server, which shuts down gracefully after SIGTERM.
func serve() {
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser, Authorize: realtime.InsecureAllowAll,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	srv := realtime.NewServer(addr, rt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx))
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ended
}

// result holds the times of several runs.
type result struct{ medians, mosts []float64 }

func (r *result) add(seconds []float64) {
	slices.Sort(seconds)
	r.medians = append(r.medians, seconds[len(seconds)/2])
	r.mosts = append(r.mosts, seconds[len(seconds)*9/10])
}

func (r result) median() float64 { return middle(r.medians) }
func (r result) most() float64   { return middle(r.mosts) }

func middle(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// supervisor starts the server, and starts it again whenever it has ended, until stop.
type supervisor struct {
	mu      sync.Mutex
	server  *exec.Cmd
	stopped bool
	done    chan struct{}
}

func supervise() *supervisor {
	s := &supervisor{done: make(chan struct{})}
	self, err := os.Executable()
	check(err)
	s.start(self)
	go func() {
		defer close(s.done)
		for {
			_ = s.server.Wait()
			s.mu.Lock()
			if s.stopped {
				s.mu.Unlock()
				return
			}
			s.start(self)
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *supervisor) start(self string) {
	s.server = exec.Command(self, "-serve")
	s.server.Stderr = os.Stderr
	check(s.server.Start())
}

func (s *supervisor) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	check(s.server.Process.Signal(sig))
}

func (s *supervisor) stop() {
	s.mu.Lock()
	s.stopped = true
	check(s.server.Process.Kill())
	s.mu.Unlock()
	<-s.done
}

// measure returns, for each client, the seconds from the signal until it was connected again.
func measure(n int, sig os.Signal) []float64 {
	server := supervise()
	defer server.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var began atomic.Pointer[time.Time]
	back := make(chan float64, n)
	all := make([]*client.Client, n)
	var dials sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range all {
		dials.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			lost := false
			for all[i] == nil {
				c, err := client.Dial(ctx, fmt.Sprintf("ws://%s/?user_id=user%d", addr, i), &client.DialOptions{
					OnState: func(s client.State) {
						start := began.Load()
						if start == nil {
							return
						}
						if s.Phase != client.Open {
							lost = true
						} else if lost {
							lost = false
							select {
							case back <- time.Since(*start).Seconds():
							default:
							}
						}
					},
				})
				if err != nil { // the server is not up yet
					time.Sleep(20 * time.Millisecond)
					if ctx.Err() != nil {
						check(err)
					}
					continue
				}
				all[i] = c
			}
		})
	}
	dials.Wait()
	now := time.Now()
	began.Store(&now)
	server.signal(sig)
	seconds := make([]float64, 0, n)
	for len(seconds) < n {
		select {
		case s := <-back:
			seconds = append(seconds, s)
		case <-ctx.Done():
			check(fmt.Errorf("%d of %d clients are connected again", len(seconds), n))
		}
	}
	for _, c := range all {
		_ = c.Close()
	}
	return seconds
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "restart:", err)
		os.Exit(1)
	}
}
