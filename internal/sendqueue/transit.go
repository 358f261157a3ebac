package sendqueue

import "time"

const (
	// perKiB is the time in which the slowest permitted peer receives one KiB.
	perKiB = time.Second
	// maxInTransit bounds the bytes that a wire has accepted and the peer has not received. A
	// full socket accepts up to 64 KiB more at once, when the peer has made room for them and for
	// half of notSentLowatBytes.
	maxInTransit = 96 << 10
	// minTransit is the size from which the bytes of a write count as in transit.
	minTransit = 4 << 10
	// maxDue is how long the slowest permitted peer needs for maxInTransit.
	maxDue = perKiB * maxInTransit / 1024
)

// transit follows the bytes that a wire has accepted and the peer may not have received. The lock
// of the queue guards it.
type transit struct {
	due time.Time // when the slowest permitted peer has received them
}

// begin notes that the peer may have received everything by now.
func (t *transit) begin() {
	if now := time.Now(); t.due.Before(now) {
		t.due = now
	}
}

// add adds n bytes.
func (t *transit) add(n int) {
	if n < minTransit {
		return
	}
	t.due = t.due.Add(perKiB / 1024 * time.Duration(min(n, maxInTransit)))
	if most := time.Now().Add(maxDue); t.due.After(most) {
		t.due = most
	}
}

// fill notes that the wire is full.
func (t *transit) fill() { t.due = time.Now().Add(maxDue) }
