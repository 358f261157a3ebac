package bolt

import (
	"cmp"
	"log/slog"
	"math"
	"time"
)

// Options configures a store. Nil and the zero Options mean the defaults.
type Options struct {
	// LossWindow is how long a publication may wait for the disk after it was acknowledged and
	// delivered. Publications of that time are lost if the process is killed, the power fails, or
	// the disk fails. Zero: none are lost, because Publish returns when the publication is on disk.
	// Negative: all since the last 4 MiB, or since the last Close, may be lost.
	//
	// Unless LossWindow is zero, a store that was not closed opens with new epochs.
	LossWindow time.Duration
	// MaxBytes bounds the size of all rooms together, and separately of all inboxes, as
	// [broker.Publication.Size] counts it. Beyond it Publish returns broker.ErrFull, except for a
	// stream that is at its own bounds. The file takes up to about twice the sum, and never
	// shrinks. Zero: 2 GiB. Negative: no bound.
	MaxBytes int64
	// MaxStreams bounds the number of rooms with publications, and separately of inboxes. Beyond it
	// Publish returns broker.ErrFull for a new stream, and streams that keep nothing end after two
	// minutes, whatever ForgetAfter is. Zero: 1,000,000. Negative: no bound.
	MaxStreams int
	// ForgetAfter is how long after its last publication a stream ends that keeps nothing and has
	// no subscription. Its ids and cursors end with it. Zero: a week. Negative: never.
	ForgetAfter time.Duration
	// NewEpochs gives all streams new epochs when the store is opened; they keep their
	// publications. Set it for a file that was restored from a copy that Backup did not make: then
	// positions that were handed out after the copy was made are refused, and never denote other
	// publications.
	NewEpochs bool
	// OnDamage is called for each damaged piece of the file. It must not call the Broker. Nil:
	// damage is only logged.
	OnDamage func(Damage)
	// Logger receives reports of damage, and errors that are returned to no caller. Nil:
	// slog.Default().
	Logger *slog.Logger

	ahead time.Duration // for tests: added to the system's clock
}

// The defaults of Options.
const (
	defaultMaxBytes   = 2 << 30
	defaultMaxStreams = 1_000_000
	defaultForget     = 7 * 24 * time.Hour
)

// resolved returns the options with the defaults filled in.
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

// bound replaces a negative number by no bound.
func bound(n int64) int64 {
	if n < 0 {
		return math.MaxInt
	}
	return n
}
