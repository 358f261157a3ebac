package bolt

import (
	"context"
	"io"

	bbolt "go.etcd.io/bbolt"
)

// Backup writes a copy of the store to w, as it is at one moment. The store can be used during the
// backup. A store that is opened from the copy has new epochs: positions that were handed out after
// the copy was made are refused, and never denote other publications.
//
// A backup costs two commits. During it the file grows, because nothing that the copy needs is
// overwritten. Once the file would grow beyond 1 GiB, or beyond twice its size, publications wait
// for w.
func (b *Broker) Backup(ctx context.Context, w io.Writer) error {
	// The label must be removed even if ctx ends.
	snapshot, err := b.snapshotToCopy(context.WithoutCancel(ctx))
	if snapshot != nil {
		defer func() { _ = snapshot.Rollback() }() // an error can only mean that it has ended
	}
	if err != nil {
		return err
	}
	return guard(func() error {
		_, err := snapshot.WriteTo(patient{ctx, w})
		return err
	})
}

// snapshotToCopy returns a snapshot in which the file is labelled as a copy. Only one is made at a
// time: in one batch with the end of another, the label would be missing.
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

// label labels the file as a copy, or removes the label. Between two commits the original has the
// label too: if the process is killed then, the original also gets new epochs.
func (bt *batch) label(copied bool) error {
	h := header{era: bt.era, lossy: bt.b.opts.LossWindow != 0, copied: copied}
	bt.note(h.write(bt.streams.Tx()))
	bt.sync, bt.b.labelled = true, true
	return nil
}

// snapshot returns the last committed state. The caller rolls it back.
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

// patient is a Writer that fails once its context has ended.
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
