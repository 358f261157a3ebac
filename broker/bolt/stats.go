package bolt

import (
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"
)

// Stats are counters of a Broker since Open, and the size of its file.
type Stats struct {
	FileBytes int64 // of the file, including free space

	Published  uint64 // publications taken
	Duplicates uint64 // duplicates refused
	Commits    uint64 // transactions on disk; Published/Commits publications share one
	Failures   uint64 // transactions that failed
	Damaged    uint64 // damaged pieces of the file, see Damage
}

// counters holds the counters of Stats.
type counters struct {
	published, duplicates, commits, failures, damaged atomic.Uint64
}

// Stats returns the current statistics.
func (b *Broker) Stats() Stats {
	c := &b.stats
	s := Stats{
		Published: c.published.Load(), Duplicates: c.duplicates.Load(),
		Commits: c.commits.Load(), Failures: c.failures.Load(), Damaged: c.damaged.Load(),
	}
	_ = b.store.view(func(tx *bbolt.Tx) error { // FileBytes is 0 after Close
		s.FileBytes = tx.Size()
		return nil
	})
	return s
}
