//go:build linux

package load

import "fmt"

// ledger notes who got which message, to prove that nobody cheats.
type ledger struct {
	sent map[uint32]*group
	seen map[delivery]int
	// losing says that the server forgets what is too much for a receiver, so what did not come is
	// no problem.
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

// problems says what is wrong: each message must have come to each member of its group
// exactly once, and to nobody else.
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
			wrong = append(wrong, fmt.Sprintf("%s got message %d that nobody sent",
				d.to.name, d.seq))
		}
	}
	return wrong
}
