//go:build linux

// Package load is the load generator of the benchmark: it starts a server, opens connections, sends
// messages, counts the deliveries, and asks the kernel for the cost to the server.
//
// It implements only as much of WebSocket as it needs, runs in one goroutine, and only on Linux,
// where the processor time and the memory of another process can be read.
package load

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"github.com/realtime-go/realtime/bench/serve"
)

// Run starts the server with the given command line, runs the workload, and stops the server. It
// takes as long as the workload says, and at most two minutes more.
func Run(server []string, w Workload) (Result, error) {
	r, err := newRun(server, w)
	if err != nil {
		return Result{}, err
	}
	defer r.end()
	return r.measure()
}

// run is a workload in progress.
type run struct {
	Workload
	*loop
	inflater
	server *process
	speak  dialect
	addr   netip.AddrPort
	secure *tls.Config // nil without TLS

	all    []*client // clients that read
	groups []*group
	// pumping means that deliveries trigger the next message.
	pumping bool
	seq     uint32
	turn    int // the next group of a paced workload
	opened  int
	got     int // number of deliveries
	bare    int // deliveries that were not compressed
	want    int // number of expected deliveries
	sampled latencies
	every   int // deliveries per latency sample
	ledger  *ledger

	body, text, frame []byte // scratch
}

func newRun(server []string, w Workload) (*run, error) {
	l, err := newLoop(w.Awake)
	if err != nil {
		return nil, err
	}
	r := &run{Workload: w, loop: l, every: 1}
	if w.Rate == 0 {
		r.every = 16 // taking a sample costs time
	}
	l.receive = r.receive
	if r.server, err = startServer(server, w); err != nil {
		l.close()
		return nil, err
	}
	if err := r.meet(r.server.hello); err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}

// meet takes what the server has said of itself.
func (r *run) meet(hello serve.Hello) (err error) {
	var known bool
	if r.speak, known = dialects[hello.Dialect]; !known {
		return fmt.Errorf("unknown dialect %q", hello.Dialect)
	}
	if r.TLS {
		if r.secure, err = trust(hello.Certificate); err != nil {
			return err
		}
	}
	r.addr, err = netip.ParseAddrPort(hello.Addr)
	return err
}

// end stops the server first, so that it does not have to handle the end of all connections.
func (r *run) end() {
	r.server.stop()
	r.loop.close()
	r.server.wait()
}

// measure runs the workload.
func (r *run) measure() (Result, error) {
	res := Result{Workload: r.Name, Versions: r.server.hello.Versions}
	before, rss := r.server.cpu(), r.server.rss()
	if err := r.open(); err != nil {
		return res, err
	}
	res.AcceptCPU = micros(r.server.cpu()-before) / float64(len(r.all))
	err := r.load(&res)
	res.RSS = r.server.rss()
	res.ConnRSS = float64(res.RSS-rss) / float64(len(r.all))
	res.Closed = r.closed
	return res, err
}

// load runs the part of the workload after all connections are open.
func (r *run) load(res *Result) error {
	if r.Storm {
		return nil
	}
	if r.Idle > 0 {
		return r.spin(r.now()+r.Idle, never)
	}
	if err := r.warm(); err != nil {
		return err
	}
	r.sampled = r.sampled[:0]
	began, cpu, got := r.now(), r.server.cpu(), r.units()
	if err := r.send(began + r.For); err != nil {
		return err
	}
	cpu, took := r.server.cpu()-cpu, r.now()-began
	res.Deliveries = r.units() - got
	if res.Deliveries > 0 {
		res.CPU = micros(cpu) / float64(res.Deliveries)
	}
	res.PerSecond = float64(res.Deliveries) / took.Seconds()
	res.P50, res.P99 = r.sampled.quantile(0.5), r.sampled.quantile(0.99)
	err := r.drain(time.Second)
	res.Lost = r.want - r.got
	if err == nil && r.Deflate && r.bare > 0 {
		err = fmt.Errorf("%d of %d deliveries were not compressed", r.bare, r.got)
	}
	return err
}

// units returns the number by which the cost is divided. Of a burst of inbound messages only the
// last one comes back.
func (r *run) units() int { return r.got * max(r.Inbound, 1) }

// warm sends for a while before the measurement. For a stalled member it sends as fast as the
// others receive, so that all buffers between the server and that member are full.
func (r *run) warm() error {
	if r.Stalled == 0 {
		return r.send(r.now() + r.Warm)
	}
	rate := r.Rate
	r.Rate, r.Burst = 0, 4
	err := r.send(r.now() + r.Warm)
	r.Rate, r.Burst = rate, 0
	if err != nil {
		return err
	}
	return r.drain(10 * time.Second)
}

// drain waits until all expected deliveries have arrived, or none has arrived for the given time.
func (r *run) drain(patience time.Duration) error {
	for {
		got := r.got
		if err := r.spin(r.now()+patience, r.even); err != nil || r.even() || r.got == got {
			return err
		}
	}
}

func (r *run) even() bool { return r.got >= r.want }

func never() bool { return false }

// spin handles events until a time, or until done returns true.
func (r *run) spin(until time.Duration, done func() bool) error {
	for !done() && r.now() < until {
		if err := r.wait(until); err != nil {
			return err
		}
	}
	return nil
}
