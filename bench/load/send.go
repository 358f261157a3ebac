//go:build linux

package load

import "time"

// send sends messages until a time: in bursts, by the window, or at the rate.
func (r *run) send(until time.Duration) error {
	if r.Rate > 0 {
		return r.pace(until)
	}
	r.pumping = true
	for _, g := range r.groups {
		r.pump(g)
	}
	err := r.spin(until, never)
	r.pumping = false
	return err
}

// pace sends messages at equal intervals, to one group after another.
func (r *run) pace(until time.Duration) error {
	gap := time.Duration(float64(time.Second) / r.Rate)
	for due := r.now(); due < until; due += gap {
		if err := r.spin(due, never); err != nil {
			return err
		}
		r.publish(r.groups[r.turn%len(r.groups)])
		r.turn++
	}
	return r.spin(until, never)
}

// pump sends to a group as many messages as may be in flight.
func (r *run) pump(g *group) {
	for r.pumping && r.mayBegin(g) {
		r.publish(g)
	}
}

func (r *run) mayBegin(g *group) bool {
	if r.Window > 0 {
		return g.sent-g.got/g.size < r.Window
	}
	return g.got >= g.sent*g.size
}

// publish sends the next burst of a group. The members of the group take turns.
func (r *run) publish(g *group) {
	from := g.senders[g.turn%len(g.senders)]
	g.turn++
	r.frame = r.frame[:0]
	for range r.Inbound - 1 {
		r.body = appendBody(r.body[:0], int64(r.now()), 0, r.Size)
		r.text = r.speak.user(r.text[:0], "nobody", r.body)
		r.frame = appendFrame(r.frame, opText, r.text)
	}
	for range max(r.Burst, 1) {
		r.compose(g)
		r.frame = appendFrame(r.frame, opText, r.text)
	}
	r.write(from, r.frame)
}

// compose encodes the next message to a group.
func (r *run) compose(g *group) {
	g.sent++
	r.seq++
	r.want += g.size
	if r.ledger != nil {
		r.ledger.sent[r.seq] = g
	}
	r.body = appendBody(r.body[:0], int64(r.now()), r.seq, r.Size)
	if g.to == "" {
		r.text = r.speak.room(r.text[:0], g.room, r.body)
	} else {
		r.text = r.speak.user(r.text[:0], g.to, r.body)
	}
}
