package realtime

import (
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// traits are what is special about a room.
type traits struct {
	policy sendqueue.Policy
	class  sendqueue.Priority // of messages: what is made up for by history is not dropped for another
	// catchUp gives a member for whom policy has dropped a message what he missed from history.
	catchUp bool
	// lossy says that policy may drop what is never made up for.
	lossy bool
	keep  broker.Retention // of Messages zero: nothing
}

func newTraits(slow SlowPolicy, history broker.Retention) traits {
	t := traits{policy: slow.engine(), keep: resolvedRetention(history)}
	switch {
	case t.keep.Messages == 0:
		t.keep = broker.Retention{}
	case slow == SlowDefault || slow == SlowCatchUp:
		t.policy, t.class, t.catchUp = sendqueue.DropNewest, sendqueue.Vital, true
	case slow != SlowDisconnect:
		t.lossy = true
	}
	return t
}

// keeps reports whether the room keeps history.
func (t *traits) keeps() bool { return t.keep.Messages > 0 }

// The defaults of Retention.
const (
	defaultAge   = 24 * time.Hour
	defaultBytes = 1 << 20
)

// resolvedRetention fills in the defaults; zero is without bound then, but for Messages.
func resolvedRetention(r broker.Retention) broker.Retention {
	r.Messages = max(0, r.Messages)
	defaults.Set(&r.Age, defaultAge)
	defaults.Set(&r.Bytes, defaultBytes)
	return r
}
