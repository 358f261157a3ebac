package brokertest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// Shared is an engine on which several brokers work, and the faults that a test can cause. A
// function that is nil is a fault that cannot be caused: the rules about it are skipped.
type Shared struct {
	// Broker returns another broker on the engine, which the test opens and closes.
	Broker func(t *testing.T) broker.Bus
	// Cut says whether a broker cannot reach the engine, nor the engine it.
	Cut func(b broker.Bus, cut bool)
	// Mute says whether nothing is passed on to a broker, although its calls are answered. Its
	// end is a reason for the broker to look for what it has missed, such as a new connection.
	Mute func(b broker.Bus, mute bool)
	// Down says whether the engine cannot be reached by anyone.
	Down func(down bool)
	// Forget makes the engine lose all data, like a server that is started again without its
	// files.
	Forget func()
	// Loses means that the engine may lose some of what it passes on, without a fault of the above.
	// The rules that do not allow that are skipped.
	Loses bool
}

// RunShared tests brokers that share an engine. engine calls test once, with an engine that is
// empty or whose names no other test uses, and with the t that it was given or that of a bubble of
// [testing/synctest]. When test returns, the brokers are closed.
//
//	func TestShared(t *testing.T) {
//		brokertest.RunShared(t, func(t *testing.T, test func(*testing.T, brokertest.Shared)) {
//			server := start(t)
//			test(t, brokertest.Shared{Broker: server.connect, Down: server.stop})
//		})
//	}
//
// Each broker must pass Run as well.
func RunShared(t *testing.T, engine func(t *testing.T, test func(*testing.T, Shared))) {
	for _, r := range slices.Concat(severalRules(), gapRules(), outageRules(), busRules()) {
		t.Run(r.name, func(t *testing.T) {
			called := false
			engine(t, func(t *testing.T, s Shared) {
				called = true
				g := &group{t: t, Shared: s}
				defer g.close()
				if missing := r.missing(s); missing != "" {
					t.Skip("not tested: " + missing)
				}
				r.test(g)
			})
			require.True(t, called, "the engine must call test")
		})
	}
}

// sharedRule is a rule of brokers that share an engine, and what its test needs.
type sharedRule struct {
	name  string
	needs need
	test  func(g *group)
}

type need int

// The needs of tests, which can be combined.
const (
	cuts need = 1 << iota
	mutes
	outages
	forgets
	sure // that the engine loses nothing
)

// missing says why the rule cannot be tested; empty: it can.
func (r *sharedRule) missing(s Shared) string {
	for _, c := range []struct {
		need need
		has  bool
		why  string
	}{
		{cuts, s.Cut != nil, "this engine cannot cut a broker off"},
		{mutes, s.Mute != nil, "this engine cannot lose what it passes on"},
		{outages, s.Down != nil, "this engine cannot go down"},
		{forgets, s.Forget != nil, "this engine cannot lose its data"},
		{sure, !s.Loses, "this engine may lose what it passes on"},
	} {
		if r.needs&c.need != 0 && !c.has {
			return c.why
		}
	}
	return ""
}
