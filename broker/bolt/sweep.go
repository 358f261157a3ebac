package bolt

import (
	"context"
	"errors"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// The sweeper looks at sweepStreams streams every sweepEvery.
const (
	sweepEvery   = time.Second
	sweepStreams = 1000
)

// sweep is the goroutine that discards publications and ids, and ends streams, without a new
// publication.
func (b *Broker) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var next []byte
	for {
		select {
		case <-tick.C:
		case <-b.closing:
			return
		}
		var err error
		if next, err = b.sweepFrom(next); err != nil && !errors.Is(err, broker.ErrClosed) {
			b.logError("bolt: sweep", err)
		}
	}
}

// sweepFrom sweeps some streams, and returns the name at which to continue.
func (b *Broker) sweepFrom(from []byte) (next []byte, err error) {
	var trim, forget []string
	now := b.clock.now()
	err = b.store.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketStreams)).Cursor()
		name, value := c.Seek(from)
		for range sweepStreams {
			if name == nil {
				break
			}
			st, ok := readState(name, value)
			switch _, due := st.beyond(now); {
			case !ok:
			case st.count == 0 && now.UnixNano()-st.used > b.forgetAfter(st.kind):
				forget = append(forget, string(name))
			case due || st.staleIDs(now):
				trim = append(trim, string(name))
			}
			name, value = c.Next()
		}
		next = append(next, name...)
		return nil
	})
	for _, name := range trim {
		err = errors.Join(err, b.trimStream(name))
	}
	for _, name := range forget {
		err = errors.Join(err, b.forgetStream(name))
	}
	return next, err
}

// forgetAfter returns after how many nanoseconds a stream ends that keeps nothing. If there are as
// many streams as allowed, it ends as soon as its ids need not be remembered.
func (b *Broker) forgetAfter(k kind) int64 {
	if int(b.streams[k].Load()) >= b.opts.MaxStreams {
		return int64(min(b.opts.ForgetAfter, idAge))
	}
	return int64(b.opts.ForgetAfter)
}

// trimStream discards what a stream has beyond its bounds.
func (b *Broker) trimStream(name string) error {
	h, err := b.acquire(name)
	if err != nil {
		return err
	}
	return b.submit(context.Background(), &task{heads: []*head{h}, do: func(bt *batch) error {
		st := bt.state(h)
		if st.number == 0 {
			return nil
		}
		before := *st
		bt.trim(name, st)
		if bt.expireIDs(st, idsInSweep); *st == before { // the counters of the state are wrong
			bt.recount(st)
		}
		bt.mark(h)
		return nil
	}})
}

// forgetStream ends an unused stream. Callers that want to use it wait until this is done, and then
// find no stream.
func (b *Broker) forgetStream(name string) error {
	h := b.cache.claim(name)
	if h == nil {
		return nil
	}
	defer b.cache.unpin(h)
	defer h.mu.Unlock()
	return b.submit(context.Background(), &task{do: func(bt *batch) error {
		key := []byte(name)
		st, ok := readState(key, bt.streams.Get(key))
		if !ok || st.number == 0 || st.count > 0 {
			return nil // the stream was used in the meantime
		}
		bt.removeStream(st.number)
		bt.remove(bt.streams, key)
		bt.more[st.kind]--
		bt.end(name)
		return nil
	}})
}
