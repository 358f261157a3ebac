// Package brokertest tests that a [broker.Broker] obeys the rules of the interface.
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, func(t *testing.T) broker.Broker { return mybroker.New() })
//	}
//
// Each rule is a subtest with its own broker. Run has the rules for all brokers, RunDurable those
// for brokers that find their streams again, and RunShared those for each [broker.Bus].
package brokertest

import (
	"slices"
	"testing"

	"github.com/realtime-go/realtime/broker"
)

// Run tests a broker that one process uses. open returns a broker that is empty, or whose streams
// no other test uses. Run calls its Open and Close. It leaves out the rules about the order of
// different streams for a [broker.Bus], which must pass RunShared as well.
func Run(t *testing.T, open func(t *testing.T) broker.Broker) {
	for _, r := range slices.Concat(
		positionRules(), deliveryRules(), readingRules(), retentionRules(), idRules(), contentRules(),
		nameRules(), cursorRules(), concurrencyRules(), togetherRules(), shareRules(),
		endRules(),
	) {
		t.Run(r.name, func(t *testing.T) { r.test(newStage(t, open(t))) })
	}
}

// RunDurable tests that a broker keeps its state when it is closed and opened again. open opens
// the store in dir, which is empty at first. open is called again after Close.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) broker.Broker) {
	for _, r := range durableRules() {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			r.test(&reopened{newStage(t, open(t, dir)), func() broker.Broker { return open(t, dir) }})
		})
	}
}

// rule is a rule of [broker.Broker] with its test.
type rule struct {
	name string
	test func(s *stage)
}
