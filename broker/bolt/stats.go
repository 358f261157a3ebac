package bolt

import (
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"
)

// Stats is what a Broker has done since Open, and how large its file is.
type Stats struct {
	FileBytes int64 // of the file, with what is free in it

	Published  uint64 // publications that were taken
	Duplicates uint64 // publications that were taken before
	Commits    uint64 // transactions on the disk: Published/Commits is how many share one
	Failures   uint64 // transactions that were given up
	Damaged    uint64 // pieces of the file that were wrong, see Damage
}

// counters are what Stats counts.
type counters struct {
	published, duplicates, commits, failures, damaged atomic.Uint64
}

// Stats returns them as of now.
func (b *Broker) Stats() Stats {
	c := &b.stats
	s := Stats{
		Published: c.published.Load(), Duplicates: c.duplicates.Load(),
		Commits: c.commits.Load(), Failures: c.failures.Load(), Damaged: c.damaged.Load(),
	}
	_ = b.store.view(func(tx *bbolt.Tx) error { // 0 after Close
		s.FileBytes = tx.Size()
		return nil
	})
	return s
}
