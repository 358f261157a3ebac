package bolt

import (
	"context"
	"io"

	bbolt "go.etcd.io/bbolt"
)

// Backup writes a copy of the store to w, as it is at one moment, while it is used. A store that
// is opened from the copy has new epochs: positions that were given out after the copy was made
// are refused, and do not name something else.
//
// It costs two commits. While it runs the file grows, since nothing that the copy needs is
// overwritten; once it would grow beyond 1 GiB, or beyond twice its size, publications wait for w.
func (b *Broker) Backup(ctx context.Context, w io.Writer) error {
	snapshot, err := b.snapshotToCopy(context.WithoutCancel(ctx)) // it must not be lost
	if snapshot != nil {
		defer func() { _ = snapshot.Rollback() }() // it can only say that it has ended
	}
	if err != nil {
		return err
	}
	return guard(func() error {
		_, err := snapshot.WriteTo(patient{ctx, w})
		return err
	})
}

// snapshotToCopy returns a snapshot in which the file says that it is a copy. One is made at a
// time: in a batch with the end of another one the file would not say so.
func (b *Broker) snapshotToCopy(ctx context.Context) (snapshot *bbolt.Tx, err error) {
	b.labelling.Lock()
	defer b.labelling.Unlock()
	err = b.submit(ctx, &task{
		do: func(bt *batch) error { return bt.label(true) },
		committed: func() (err error) {
			snapshot, err = b.store.snapshot()
			return err
		},
	})
	if err != nil {
		return snapshot, err
	}
	return snapshot, b.submit(ctx, &task{do: func(bt *batch) error { return bt.label(false) }})
}

// label says in the file that it is a copy. For the moment between two commits it says so of the
// original: if the process is killed just then, that has new epochs too.
func (bt *batch) label(copied bool) error {
	h := header{era: bt.era, lossy: bt.b.opts.LossWindow != 0, copied: copied}
	bt.note(h.write(bt.streams.Tx()))
	bt.sync, bt.b.labelled = true, true
	return nil
}

// snapshot returns what was committed last. The caller rolls it back.
func (s *store) snapshot() (tx *bbolt.Tx, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, s.closedBecause()
	}
	err = guard(func() error {
		tx, err = s.db.Begin(false)
		return err
	})
	return tx, err
}

// patient is a Writer until its context ends.
type patient struct {
	ctx context.Context
	w   io.Writer
}

func (p patient) Write(data []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.w.Write(data)
}
