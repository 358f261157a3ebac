package realtime

import "github.com/realtime-go/realtime/internal/sendqueue"

// traits are what is special about a room.
type traits struct {
	policy sendqueue.Policy
	class  sendqueue.Priority // of messages: what is made up for by history is not dropped for another
	// catchUp gives a member for whom policy has dropped a message what he missed from history.
	catchUp bool
	// lossy says that policy may drop what is never made up for.
	lossy bool
	keep  Retention // of Messages zero: nothing
}

func newTraits(slow SlowPolicy, history Retention) traits {
	t := traits{policy: slow.engine(), keep: history.resolved()}
	switch {
	case t.keep.Messages == 0:
		t.keep = Retention{}
	case slow == SlowDefault || slow == SlowCatchUp:
		t.policy, t.class, t.catchUp = sendqueue.DropNewest, sendqueue.Vital, true
	case slow != SlowDisconnect:
		t.lossy = true
	}
	return t
}

// keeps reports whether the room keeps history.
func (t *traits) keeps() bool { return t.keep.Messages > 0 }
