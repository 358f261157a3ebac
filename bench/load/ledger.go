//go:build linux

package load

import "fmt"

// ledger records all deliveries, to prove that each server does its work.
type ledger struct {
	sent map[uint32]*group
	seen map[delivery]int
	// losing means that the server drops messages for a slow receiver, so a missing delivery is no
	// problem.
	losing bool
}

// delivery is one message to one client.
type delivery struct {
	to  *client
	seq uint32
}

func newLedger() *ledger {
	return &ledger{sent: make(map[uint32]*group), seen: make(map[delivery]int)}
}

func (l *ledger) note(to *client, seq uint32) { l.seen[delivery{to, seq}]++ }

// problems returns what is wrong. Each message must have been delivered exactly once to each member
// of its group, and to no other client.
func (l *ledger) problems(clients []*client) []string {
	var wrong []string
	for seq, g := range l.sent {
		for _, c := range clients {
			want := 0
			if c.group == g {
				want = 1
			}
			n := l.seen[delivery{c, seq}]
			if n != want && !(l.losing && n == 0) {
				wrong = append(wrong, fmt.Sprintf("%s got message %d %d times, not %d",
					c.name, seq, n, want))
			}
		}
	}
	for d := range l.seen {
		if l.sent[d.seq] == nil {
			wrong = append(wrong, fmt.Sprintf("%s got message %d, which was not sent",
				d.to.name, d.seq))
		}
	}
	return wrong
}
