package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

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
	reader *state.Reader // the connection; nil while its session is detached
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

// Latest returns the latest values of the room, sorted by their keys, see Message.Latest. A room
// without members has none. It knows the values of this process. It does not block; ctx is not used
// and is reserved for brokers that keep values. The caller must not change the contents.
func (r Room) Latest(context.Context) ([]Message, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	found := r.m.rooms.lock(r.name)
	if found == nil {
		return []Message{}, nil
	}
	defer found.mu.Unlock()
	messages := []Message{}
	if found.state != nil {
		for _, v := range found.state.Values() {
			messages = append(messages, Message(v.Message()))
		}
	}
	slices.SortFunc(messages, func(a, b Message) int { return cmp.Compare(a.Latest, b.Latest) })
	return messages, nil
}

// setLatest makes a message the current value of its key. Its position is the stamp of the value: of
// a message that comes from another node, or else setLatest sets it for the others.
func (b *broadcaster) setLatest(p *broker.Publication) (res Result, err error) {
	at := state.Stamp{N: p.Position.Offset, Node: p.Position.Epoch}
	room, foreign := onlyRoom(&p.Target), at.N != 0
	if room != "" {
		v := b.m.stateConfig.Value(room, &p.Message, at)
		res.Matched, err = b.m.rooms.setLatest(room, v)
		at = v.Stamp()
	} else if c, ok := b.m.conns.byID.Get(p.Target.Conns[0]); ok {
		res.Matched, err = c.setLatest(b.m.stateConfig.Value("", &p.Message, at))
	}
	if errors.Is(err, state.ErrShort) && room != "" && foreign {
		b.m.spread.lacks(room)
	}
	if err != nil {
		return Result{}, ErrFull
	}
	if at.N == 0 && !b.m.node.Alone() { // the room has no members here
		at = state.Stamp{N: uint64(time.Now().UnixMicro()), Node: b.m.stateConfig.Node}
	}
	p.Position = broker.Position{Epoch: at.Node, Offset: at.N}
	res.Queued = res.Matched
	return res, nil
}

// setLatest gives a value to the members of a room, and returns how many there are.
func (rs *rooms) setLatest(name string, v *state.Value) (members int, err error) {
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
	return len(r.members), r.state.SetValue(v)
}

// setLatest gives a value to the connection, and returns 1. If the connection has ended, it keeps
// the value for one that resumes the session, and returns 0.
func (c *Conn) setLatest(value *state.Value) (conns int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone {
		return 0, nil
	}
	if !c.session.Ended() {
		conns = 1
	}
	v := c.useValues()
	v.mu.Lock()
	defer v.mu.Unlock()
	return conns, v.room.SetValue(value)
}

// encodedValues returns the values of a room with their stamps, for other nodes. They include those
// that have removed a key.
func (rs *rooms) encodedValues(name string) (encoded [][]byte) {
	found := rs.lock(name)
	if found == nil {
		return nil
	}
	var values []*state.Value
	if found.state != nil {
		values = found.state.StampedValues()
	}
	found.mu.Unlock()
	for _, v := range values {
		at := v.Stamp()
		p := broker.Publication{
			Target: broker.Target{Rooms: []string{name}}, Message: v.Message(),
			Position: broker.Position{Epoch: at.Node, Offset: at.N},
		}
		if data, err := p.AppendBinary(nil); err == nil {
			encoded = append(encoded, data)
		}
	}
	return encoded
}

// learnValues asks the other nodes for the values of a room that has got its first member here, or
// that has missed some. If one does not answer, it does so again later.
func (m *Manager) learnValues(room string) {
	answers, err := m.node.FetchRoom(context.Background(), room, askValues, &ask{Room: room})
	if err != nil {
		m.spread.again(room)
	}
	for i := range answers {
		var encoded [][]byte
		if json.Unmarshal(answers[i].Body, &encoded) != nil {
			continue
		}
		for _, data := range encoded {
			var p broker.Publication
			if p.UnmarshalBinary(data) == nil && p.Message.Latest != "" && onlyRoom(&p.Target) == room {
				sink{m}.deliverForeign(&p)
			}
		}
	}
}

// useValues returns the values for the connection. It makes them if there are none. c.mu is held.
func (c *Conn) useValues() *connValues {
	s := c.useState()
	if s.values == nil {
		v := &connValues{}
		v.room = state.NewRoom(&c.m.stateConfig, &v.mu, "", state.ShowNothing)
		if c.phase != detachedPhase {
			v.reader = v.room.Add(s.pace)
		}
		s.values = v
	}
	return s.values
}

// detachValues ends the giving of values to the connection, whose session is now detached. c.mu is
// held.
func (c *Conn) detachValues() {
	s := c.state.Load()
	if s == nil || s.values == nil {
		return
	}
	v := s.values
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reader.Leave()
	v.reader = nil
}

// takeValues returns the values for the connection, which has ended, and takes them away from it.
// It reports whether there have been any. c.mu is held.
func (c *Conn) takeValues() (values []*state.Value, had bool) {
	s := c.state.Load()
	if s == nil || s.values == nil {
		return nil, false
	}
	v := s.values
	s.values = nil
	v.mu.Lock()
	defer v.mu.Unlock()
	v.room.Close()
	return v.room.Values(), true
}

// addValues gives the connection the values of the session that it has resumed, unless it has ended
// meanwhile. Its own values are newer. Its client is told which keys there are, because it may know
// others. c.mu is held.
func (c *Conn) addValues(values []*state.Value) {
	if c.phase == gone { // nobody would take them away from it again
		return
	}
	v := c.useValues()
	v.mu.Lock()
	defer v.mu.Unlock()
	live := v.reader != nil
	if live {
		v.reader.Leave() // until all values are there
	}
	v.room.AddValues(values)
	if live {
		v.reader = v.room.Add(c.pace())
		v.reader.KnowsValues(0)
		v.reader.Begin()
	}
}
