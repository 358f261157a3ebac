package bolt

import (
	"cmp"
	"log/slog"
	"math"
	"time"
)

// Options are how a store works. The zero Options and nil are the defaults.
type Options struct {
	// LossWindow is how long a publication may wait for the disk after it was acknowledged and
	// delivered: so much is lost if the process is killed or the power fails, or if the disk does.
	// Zero: nothing is; Publish returns when the disk has it. Negative: what has come since the
	// last 4 MiB, or the last Close.
	//
	// Unless it is zero, a store that was not closed opens with new epochs.
	LossWindow time.Duration
	// MaxBytes is how much is kept in all rooms together, and again in all inboxes, as
	// [broker.Publication.Size] counts. Beyond it Publish returns broker.ErrFull, but for a
	// stream that is at its own bounds. The file takes up to about twice the sum, and never
	// shrinks. Zero: 2 GiB. Negative: no bound.
	MaxBytes int64
	// MaxStreams is in how many rooms something was published, and again in how many inboxes.
	// Beyond it Publish returns broker.ErrFull for a new one, and those in which nothing is kept
	// end after two minutes, whatever ForgetAfter says. Zero: 1,000,000. Negative: no bound.
	MaxStreams int
	// ForgetAfter is when a stream ends in which nothing is kept any more, and which nobody is
	// subscribed to: so long after its last publication. Its ids and cursors go with it. Zero: a
	// week. Negative: never.
	ForgetAfter time.Duration
	// NewEpochs lets all streams begin another life when the store is opened, with what they have.
	// It is for a file that was put back from a copy that Backup did not make: positions that were
	// given out since are refused then, and do not name other publications.
	NewEpochs bool
	// OnDamage is told of each piece of the file that is damaged. It must not call the Broker. Nil:
	// only Logger is.
	OnDamage func(Damage)
	// Logger gets what is damaged, and failures of what nobody waits for. Nil: slog.Default().
	Logger *slog.Logger

	ahead time.Duration // of tests: how far the system's clock is
}

// The defaults of Options.
const (
	defaultMaxBytes   = 2 << 30
	defaultMaxStreams = 1_000_000
	defaultForget     = 7 * 24 * time.Hour
)

// resolved fills in the defaults.
func (o *Options) resolved() Options {
	if o == nil {
		o = &Options{}
	}
	r := *o
	r.MaxBytes = bound(cmp.Or(r.MaxBytes, defaultMaxBytes))
	r.MaxStreams = int(bound(int64(cmp.Or(r.MaxStreams, defaultMaxStreams))))
	r.ForgetAfter = time.Duration(bound(int64(cmp.Or(r.ForgetAfter, defaultForget))))
	r.Logger = cmp.Or(r.Logger, slog.Default())
	return r
}

// bound makes no bound of what is negative.
func bound(n int64) int64 {
	if n < 0 {
		return math.MaxInt
	}
	return n
}
