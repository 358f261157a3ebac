package realtime

import (
	"sync"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/state"
)

// connState is what a connection needs to be given what is current. A connection that is given
// nothing has none.
type connState struct {
	pace   *state.Pace
	values *connValues // guarded by Conn.mu; nil before the first one
}

// connValues are the latest values for one connection.
type connValues struct {
	mu     sync.Mutex
	room   *state.Room
	reader *state.Reader // nil until it may be given values
}

// useState returns the state of the connection. It makes one if there is none.
func (c *Conn) useState() *connState {
	if s := c.state.Load(); s != nil {
		return s
	}
	c.state.CompareAndSwap(nil, &connState{
		pace: state.NewPace(&c.m.stateConfig, c.queue, c.proto, c.deflates),
	})
	return c.state.Load()
}

// pace returns the pace of the connection.
func (c *Conn) pace() *state.Pace { return c.useState().pace }

// setLatest makes a message the current value of its key.
func (b *broadcaster) setLatest(p *broker.Publication) (res Result, err error) {
	res.Local = true
	if room := onlyRoom(&p.Target); room != "" {
		res.Matched, err = b.m.rooms.setLatest(room, &p.Message)
	} else if c := b.m.conns.find(p.Target.Conns[0]); c != nil {
		res.Matched, err = c.setLatest(&p.Message)
	}
	if err != nil {
		return Result{}, ErrFull
	}
	res.Queued = res.Matched
	return res, nil
}

// setLatest gives a message to the members of a room, and returns how many there are.
func (rs *rooms) setLatest(name string, msg *broker.Message) (members int, err error) {
	r := rs.lock(name)
	if r == nil {
		return 0, nil
	}
	defer r.mu.Unlock()
	if len(r.members) == 0 && r.shown == 0 { // only held
		return 0, nil
	}
	if st := r.useState(); !st.HasValues() {
		for i := range r.members {
			r.read(r.members[i].membership)
		}
	}
	return len(r.members), r.state.SetValue(msg)
}

// setLatest gives a message to the connection, and returns 1 unless it has ended.
func (c *Conn) setLatest(msg *broker.Message) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == detachedPhase || c.phase == gone {
		return 0, nil
	}
	return 1, c.setLatestLocked(msg)
}

// setLatestLocked requires that c.mu is held.
func (c *Conn) setLatestLocked(msg *broker.Message) error {
	v := c.useValues()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reader == nil {
		v.reader = v.room.Add(c.pace())
	}
	return v.room.SetValue(msg)
}

// useValues returns the values for the connection. It makes them if there are none. c.mu is held.
func (c *Conn) useValues() *connValues {
	s := c.useState()
	if s.values == nil {
		s.values = &connValues{}
		s.values.room = state.NewRoom(&c.m.stateConfig, &s.values.mu, "", state.ShowNothing)
	}
	return s.values
}

// takeValues returns the values for the connection, which has ended, and takes them away from it.
// It returns nil if there never were any. c.mu is held.
func (c *Conn) takeValues() (messages []broker.Message) {
	s := c.state.Load()
	if s == nil || s.values == nil {
		return nil
	}
	v := s.values
	s.values = nil
	v.mu.Lock()
	defer v.mu.Unlock()
	v.room.Close()
	return append([]broker.Message{}, v.room.Messages()...)
}

// addValues gives the connection values of the session that it has resumed, unless it has ended
// meanwhile or there never were any. Its own values are newer. The client learns which keys exist:
// it may have missed that others were removed. c.mu is held.
func (c *Conn) addValues(messages []broker.Message) {
	if c.phase == gone || messages == nil { // if gone, nobody would take them away from it again
		return
	}
	v := c.useValues()
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range messages {
		if !v.room.Has(messages[i].Latest) {
			_ = v.room.SetValue(&messages[i]) // fails only while memory is short
		}
	}
	if v.reader == nil {
		v.reader = v.room.Add(c.pace())
	}
	v.reader.KnowsValues(0)
	v.reader.Begin()
}
