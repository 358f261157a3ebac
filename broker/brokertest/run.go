// Package brokertest holds a [broker.Broker] to what the interface promises.
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, func(t *testing.T) broker.Broker { return mybroker.New() })
//	}
//
// Each rule is a subtest with a broker of its own.
package brokertest

import (
	"slices"
	"testing"

	"github.com/realtime-go/realtime/broker"
)

// Run tests a broker of one process. open returns one that is empty, or whose streams nobody else
// uses; Run calls Open and Close of it.
func Run(t *testing.T, open func(t *testing.T) broker.Broker) {
	for _, r := range slices.Concat(
		positionRules(), deliveryRules(), readingRules(), retentionRules(), idRules(), contentRules(),
		nameRules(), cursorRules(), concurrencyRules(), togetherRules(), shareRules(),
		endRules(),
	) {
		t.Run(r.name, func(t *testing.T) { r.test(newStage(t, open(t))) })
	}
}

// RunDurable tests that a broker finds again what it has kept. open opens the store in dir, which
// is empty the first time, and is called again after Close.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) broker.Broker) {
	for _, r := range durableRules() {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			r.test(&reopened{newStage(t, open(t, dir)), func() broker.Broker { return open(t, dir) }})
		})
	}
}

// rule is something that is promised.
type rule struct {
	name string
	test func(s *stage)
}
