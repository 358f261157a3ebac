//go:build linux

package load

import (
	"bytes"
	"time"
)

// receive handles data that a server has sent.
func (r *run) receive(c *client, data []byte) ([]byte, error) {
	if c.greets > r.speak.greets {
		rest, ok, err := cutUpgrade(data)
		if err != nil || !ok {
			return data, err
		}
		data = rest
		if r.speak.hello != "" {
			r.reply(c, opText, []byte(r.speak.hello))
		}
		r.greeted(c)
	}
	now, got := r.now(), r.got
	for {
		first, payload, rest, ok := cutFrame(data)
		if !ok {
			break
		}
		data = rest
		if err := r.take(c, first, payload, now); err != nil {
			return nil, err
		}
	}
	if r.got > got && c.group != nil {
		r.pump(c.group)
	}
	return data, nil
}

// take handles one frame, compressed or not.
func (r *run) take(c *client, first byte, payload []byte, now time.Duration) error {
	before := r.got
	compressed := first&rsv1Bit != 0
	if compressed {
		var err error
		if payload, err = r.inflate(first, payload); err != nil {
			return err
		}
	}
	r.handle(c, first&opBits, payload, now)
	if !compressed {
		r.bare += r.got - before
	}
	return nil
}

// handle handles one frame. Each frame of a fragmented message is handled separately.
func (r *run) handle(c *client, op byte, payload []byte, now time.Duration) {
	switch {
	case op == opPing:
		r.reply(c, opPong, payload)
	case op == opClose, op == opPong:
		// Only the end of the socket counts.
	case c.greets > 0:
		r.greeted(c)
	case r.speak.ping != "" && string(payload) == r.speak.ping:
		r.reply(c, opText, []byte(r.speak.pong))
	default:
		r.deliver(c, payload, now)
	}
}

// greeted counts the frames until a client is open.
func (r *run) greeted(c *client) {
	c.greets--
	if c.greets > 0 {
		return
	}
	r.opened++
	if c.stalled {
		r.ignore(c)
	}
}

// deliver counts the bodies in a payload: some servers put several messages into one frame.
func (r *run) deliver(c *client, payload []byte, now time.Duration) {
	n := bytes.Count(payload, []byte{mark})
	if n == 0 || c.group == nil {
		return
	}
	before := r.got
	r.got += n
	c.group.got += n
	if r.ledger == nil && before/r.every == r.got/r.every {
		return
	}
	for {
		i := bytes.IndexByte(payload, mark)
		if i < 0 {
			return
		}
		payload = payload[i:]
		at, seq, ok := cutBody(payload)
		if !ok {
			return
		}
		if r.ledger == nil {
			r.sampled.add(now - time.Duration(at))
			return
		}
		r.ledger.note(c, seq)
		payload = payload[1:]
	}
}

// reply sends a frame that is not part of the workload.
func (r *run) reply(c *client, op byte, payload []byte) {
	r.write(c, appendFrame(nil, op, payload))
}
