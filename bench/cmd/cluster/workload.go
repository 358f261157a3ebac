//go:build linux

package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// sizes says how much is done.
type sizes struct {
	publishFor   time.Duration
	rooms        int
	members      int // of each of these rooms
	publishers   int // of these, when many publish
	joiners      int
	joins        int // of new rooms, by each of them
	watchers     int // of the room in which churners come and go
	churns       int // by each churner
	returning    int // clients that reconnect at once
	perRoom      int // of these
	missed       int // messages of each of their rooms meanwhile
	textSize     int
	dialTogether int
}

var full = sizes{
	publishFor: 5 * time.Second, rooms: 10, members: 30, publishers: 16, joiners: 50, joins: 100, watchers: 50, churns: 20,
	returning: 10_000, perRoom: 100, missed: 5, textSize: 100, dialTogether: 50,
}

var quick = sizes{
	publishFor: 200 * time.Millisecond, rooms: 2, members: 6, publishers: 3, joiners: 4, joins: 5, watchers: 4, churns: 2,
	returning: 60, perRoom: 20, missed: 2, textSize: 100, dialTogether: 20,
}

// numbers are what was measured, by name.
type numbers map[string]float64

// microseconds returns a time for each of n things.
func microseconds(d time.Duration, n int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(n)
}

// measured calls do, and notes the processor time that nodes and Redis need for each of n things.
func (c *cluster) measured(out numbers, name string, do func() (n int, err error)) error {
	c.idle()
	nodes, redis := c.cpu()
	n, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.idle()
	nodes2, redis2 := c.cpu()
	out[name+", CPU of the nodes, µs"] = microseconds(nodes2-nodes, n)
	out[name+", CPU of Redis, µs"] = microseconds(redis2-redis, n)
	return nil
}

// all calls do n times at once, and returns the first error.
func all(n int, do func(i int) error) error {
	var running sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		running.Go(func() { errs[i] = do(i) })
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// connect connects clients to the nodes in turn, some at a time, and lets each begin.
func (c *cluster) connect(n, together int, begin func(i int, one *client) error) ([]*client, error) {
	clients := make([]*client, n)
	slots := make(chan struct{}, together)
	err := all(n, func(i int) (err error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		if clients[i], err = c.dial(i); err != nil {
			return err
		}
		return begin(i, clients[i])
	})
	return clients, err
}

func closeAll(clients []*client) {
	for _, one := range clients {
		if one != nil {
			one.close()
		}
	}
}

// publishing lets one member of each room publish.
func (c *cluster) publishing(s sizes, out numbers) error {
	return c.publish(s, 1, "one publisher", out)
}

// streaming lets many members of each room publish.
func (c *cluster) streaming(s sizes, out numbers) error {
	return c.publish(s, s.publishers, "many publishers", out)
}

// publish lets some members of each room publish, each again when the answer and a copy for each of its
// messages have come.
func (c *cluster) publish(s sizes, publishers int, name string, out numbers) error {
	room := func(i int) string { return fmt.Sprint(name[:3], i%s.rooms) }
	clients, err := c.connect(s.rooms*s.members, s.dialTogether, func(i int, one *client) error {
		_, err := one.join(room(i), nil, false)
		return err
	})
	defer closeAll(clients)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var took []time.Duration
	sent := make([]int, s.rooms)
	var lasted time.Duration
	err = c.measured(out, name+": delivery", func() (int, error) {
		began := time.Now()
		err := all(s.rooms*publishers, func(i int) error {
			for n := 1; time.Since(began) < s.publishFor; n++ {
				now := time.Now()
				if err := clients[i].publish(room(i), s.textSize); err != nil {
					return err
				}
				mu.Lock()
				sent[i%s.rooms]++
				mu.Unlock()
				if err := clients[i].await(n); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(now))
				mu.Unlock()
			}
			return nil
		})
		lasted = time.Since(began)
		if err != nil {
			return 0, err
		}
		err = all(len(clients), func(i int) error { return clients[i].await(sent[i%s.rooms]) })
		return len(took) * s.members, err
	})
	if err != nil {
		return err
	}
	for i, one := range clients {
		if got, want := one.messages(), sent[i%s.rooms]; got != want {
			return fmt.Errorf("%d messages instead of %d", got, want)
		}
	}
	slices.Sort(took)
	out[name+": publish, p50, ms"] = float64(took[len(took)/2].Microseconds()) / 1000
	out[name+": publish, p99, ms"] = float64(took[len(took)*99/100].Microseconds()) / 1000
	out[name+": publish, 1/s"] = float64(len(took)) / lasted.Seconds()
	return nil
}

// joining lets clients join rooms that nobody has joined before.
func (c *cluster) joining(s sizes, out numbers) error {
	clients, err := c.connect(s.joiners, s.dialTogether, func(int, *client) error { return nil })
	defer closeAll(clients)
	if err != nil {
		return err
	}
	return c.measured(out, "join of a new room", func() (int, error) {
		began := time.Now()
		err := all(s.joiners, func(i int) error {
			for n := range s.joins {
				if _, err := clients[i].join(fmt.Sprint("new", i, "-", n), nil, false); err != nil {
					return err
				}
			}
			return nil
		})
		out["join of a new room, 1/s"] = float64(s.joiners*s.joins) / time.Since(began).Seconds()
		return s.joiners * s.joins, err
	})
}

// staying is how long a churner stays, and stays away: long enough that each is told of.
const staying = 120 * time.Millisecond

// churning lets clients come and go in a room in which others watch who is there.
func (c *cluster) churning(s sizes, out numbers) error {
	const room = "churn"
	clients, err := c.connect(2*s.watchers, s.dialTogether, func(i int, one *client) error {
		if i >= s.watchers {
			return nil
		}
		_, err := one.join(room, nil, true)
		return err
	})
	defer closeAll(clients)
	if err != nil {
		return err
	}
	return c.measured(out, "coming or going", func() (int, error) {
		return 2 * s.watchers * s.churns, all(s.watchers, func(i int) error {
			one := clients[s.watchers+i]
			for range s.churns {
				if _, err := one.join(room, nil, false); err != nil {
					return err
				}
				time.Sleep(staying)
				if err := one.leave(room); err != nil {
					return err
				}
				time.Sleep(staying)
			}
			return nil
		})
	})
}

// returning lets clients lose their connections, miss messages, and come back all at once.
func (c *cluster) returning(s sizes, out numbers) error {
	room := func(i int) string { return fmt.Sprint("return", i/s.perRoom) }
	at := make([]position, s.returning)
	clients, err := c.connect(s.returning, s.dialTogether, func(i int, one *client) (err error) {
		at[i], err = one.join(room(i), nil, false)
		return err
	})
	closeAll(clients)
	if err != nil {
		return err
	}
	err = func() error {
		writer, err := c.dial(0)
		if err != nil {
			return err
		}
		defer writer.close()
		for i := 0; i < s.returning; i += s.perRoom {
			for range s.missed {
				if err := writer.publish(room(i), s.textSize); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err != nil {
		return err
	}
	return c.measured(out, "return with since", func() (int, error) {
		began := time.Now()
		clients, err = c.connect(s.returning, s.dialTogether, func(i int, one *client) error {
			if _, err := one.join(room(i), &at[i], false); err != nil {
				return err
			}
			return one.await(s.missed)
		})
		out["return with since, 1/s"] = float64(s.returning) / time.Since(began).Seconds()
		defer closeAll(clients)
		for _, one := range clients {
			if err == nil && one.messages() != s.missed {
				err = fmt.Errorf("%d messages instead of %d", one.messages(), s.missed)
			}
		}
		return s.returning, err
	})
}
