//go:build linux

package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// opening is the maximum number of connections that are being opened at the same time.
const opening = 64

// open opens all connections and waits until the server is idle.
func (r *run) open() error {
	if err := raiseFiles(); err != nil {
		return err
	}
	total := r.conns() + r.Stalled
	deadline := r.now() + time.Minute
	for i := range total {
		if err := r.openOne(i); err != nil {
			return err
		}
		few := func() bool { return i+1-r.opened < opening }
		if err := r.spin(deadline, few); err != nil {
			return err
		}
	}
	if err := r.spin(deadline, func() bool { return r.opened == total }); err != nil {
		return err
	}
	if r.opened < total {
		return fmt.Errorf("%d of %d connections opened", r.opened, total)
	}
	r.introduce()
	return r.settle()
}

// openOne opens the i-th connection. The stalled connections come last, and are in room 0.
func (r *run) openOne(i int) error {
	room, stalled, rcvbuf := i/r.Members, i >= r.conns(), 0
	if stalled {
		room, rcvbuf = 0, 4096
	}
	c := &client{name: fmt.Sprintf("u%d", i), greets: 1 + r.speak.greets, stalled: stalled}
	target := fmt.Sprintf("%sroom=%s&user=%s", r.speak.path, roomName(room), c.name)
	if r.Direct {
		target += "&direct=1"
	}
	var err error
	if c.fd, c.tls, err = dial(r.addr, r.secure, rcvbuf); err != nil {
		return err
	}
	if !stalled {
		r.all = append(r.all, c)
	}
	if err := r.add(c); err != nil {
		return err
	}
	r.write(c, []byte(upgrade(r.addr, target, r.Deflate)))
	return nil
}

func roomName(i int) string { return fmt.Sprintf("r%d", i) }

// introduce creates the groups: one for each room. With Direct there is one group for each client,
// whose sender is its neighbour, or, for an inbound workload, the client itself.
func (r *run) introduce() {
	for i, c := range r.all {
		switch {
		case r.Inbound > 0:
			r.groups = append(r.groups, &group{senders: []*client{c}, to: c.name})
		case r.Direct:
			from := r.all[(i+1)%len(r.all)]
			r.groups = append(r.groups, &group{senders: []*client{from}, to: c.name})
		case i%r.Members == 0:
			r.groups = append(r.groups, &group{room: roomName(i / r.Members)})
		}
		c.group = r.groups[len(r.groups)-1]
		c.group.size++
		if !r.Direct {
			c.group.senders = append(c.group.senders, c)
		}
	}
}

// settle waits until the server has used almost no processor time for a while: it may still be
// working for clients that are already open.
func (r *run) settle() error {
	const pause, nothing = 10 * time.Millisecond, 300 * time.Microsecond
	for quiet := 0; quiet < 3; {
		before := r.server.cpu()
		if err := r.spin(r.now()+pause, never); err != nil {
			return err
		}
		quiet++
		if r.server.cpu()-before > nothing {
			quiet = 0
		}
		if r.now() > 2*time.Minute {
			return fmt.Errorf("the server does not become idle")
		}
	}
	return nil
}

// raiseFiles raises the limit of open files to the maximum, also for the server.
func raiseFiles() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("limit of files: %w", err)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("limit of files: %w", err)
	}
	return nil
}
