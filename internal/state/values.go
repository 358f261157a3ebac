package state

import (
	"bytes"
	"cmp"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	maxRoomKeys   = 1000
	maxConnKeys   = 64
	maxValueBytes = 1 << 20

	// valueOverhead is about the memory of a value without its message, in bytes.
	valueOverhead = 512
)

// Value is the current message of a key. After the key was removed, it is the message that did it.
type Value struct {
	frames wire.Frames
	size   int // of the content, in bytes
	memory int64
	stamp  Stamp
}

// Stamp orders the values of a key that several nodes set: the greatest one stays. Each node counts
// on from the greatest stamp that it has seen in the room, and from its clock if that is ahead: so a
// value that was set with knowledge of another one replaces it, whatever the clocks say, and a node
// on which the room has just begun is not behind the others (hybrid logical clocks: Kulkarni and
// others, "Logical physical clocks", 2014).
type Stamp struct {
	N    uint64 // microseconds or more; zero: not stamped yet
	Node string
}

// compare returns -1, 0 or 1 if s is less than, equal to or greater than o.
func (s Stamp) compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.N, o.N), cmp.Compare(s.Node, o.Node))
}

// Value returns a message as a value of a room or, if room is empty, for a connection. The stamp is
// that of another node, or zero. Value keeps no reference to the content. It may take long, so no
// lock should be held.
func (c *Config) Value(room string, m *broker.Message, at Stamp) *Value {
	v := &Value{stamp: at, frames: wire.Frames{
		Message:  *m,
		Envelope: wire.Envelope{Room: room, Latest: true},
	}}
	stored := &v.frames.Message
	stored.Content, stored.Binary = bytes.Clone(m.Content), bytes.Clone(m.Binary)
	if room == "" {
		v.frames.Envelope.Conn = m.Conn
	}
	c.Speakers.Encode(&v.frames)
	c.Compressor.Compress(&v.frames)
	if !v.removes() {
		v.size = len(m.Content) + len(m.Binary)
		// Frames of other protocols may be made later. Most often there is one, with the content.
		v.memory = valueOverhead + int64(v.size+max(v.size, v.frames.Size()))
	}
	return v
}

func (v *Value) key() string { return v.frames.Message.Latest }

// Stamp returns the stamp of a value that was set.
func (v *Value) Stamp() Stamp { return v.stamp }

// removes reports whether the value removes its key.
func (v *Value) removes() bool {
	m := &v.frames.Message
	return m.Binary == nil && wire.IsNull(m.Content)
}

// values are the current messages of a room.
type values struct {
	table  table[*Value] // its version is zero before initValues
	used   bool          // there has been a value
	clock  uint64        // the greatest Stamp.N
	keys   int           // size of all keys on the wire, in bytes
	size   int           // of all contents, in bytes
	memory int64         // in bytes
	gone   int           // removed ones that memory includes
}

// initValues makes the table, before its first use.
func (r *Room) initValues() {
	if r.values.table.cells != nil {
		return
	}
	r.values.table = newTable[*Value]()
	for _, reader := range r.readers {
		reader.values, reader.removed = r.values.table.version, r.values.table.version
	}
}

// SetValue makes v the current value of its key, or removes the key, and stamps it. If v is of another
// node, and the key has a value with a greater stamp, nothing happens. SetValue returns ErrFull if the
// room has too many values, and ErrShort if memory is short. Values of other nodes may be twice as many:
// what two nodes have taken at once, or while they could not reach each other, both must have.
func (r *Room) SetValue(v *Value) error {
	memory := v.memory
	if old, has := r.values.table.get(v.key()); has {
		memory -= old.memory
	}
	if !r.cfg.fits(memory) {
		return ErrShort
	}
	return r.setValue(v)
}

// setValue is SetValue, also if memory is short.
func (r *Room) setValue(v *Value) error {
	r.initValues()
	vs := &r.values
	key, removes := v.key(), v.removes()
	old, has := vs.table.get(key)
	if !vs.accept(v, r.cfg.Node) || removes && !has && r.cfg.Node == "" {
		return nil
	}
	more, memory := v.size, v.memory
	if has {
		more, memory = more-old.size, memory-old.memory
	}
	times := 1
	if v.stamp.Node != r.cfg.Node {
		times = 2
	}
	if !removes && (!has && !r.takesKey(key, times) ||
		more > 0 && vs.size+more > times*maxValueBytes) {
		return ErrFull
	}
	if removes {
		vs.table.change(key, v, true) // also if there is none: an older one may still arrive
		if has {
			vs.keys -= wire.KeySize(key)
		}
	} else {
		vs.table.set(key, v)
		if !has {
			vs.keys += wire.KeySize(key)
		}
	}
	vs.used = true
	vs.size += more
	// Those that are removed take memory, too, until that is forgotten.
	memory += int64(vs.table.gone-vs.gone) * valueOverhead
	vs.gone = vs.table.gone
	vs.memory += memory
	r.cfg.hold(memory)
	r.changed()
	return nil
}

// accept stamps a value, or reports whether its stamp is greater than that of the current one.
func (vs *values) accept(v *Value, node string) bool {
	switch {
	case v.stamp.N == 0 && node == "":
		return true
	case v.stamp.N == 0:
		vs.clock = max(vs.clock+1, uint64(time.Now().UnixMicro()))
		v.stamp = Stamp{vs.clock, node}
		return true
	}
	if c := vs.table.cells[v.key()]; c != nil && v.stamp.compare(c.value.stamp) <= 0 {
		return false
	}
	vs.clock = max(vs.clock, v.stamp.N)
	return true
}

// HasValues reports whether the room has or had values. Before that, its members need no readers.
func (r *Room) HasValues() bool { return r.values.used }

// AddValues sets the values of a room that was closed, as long as they fit, and where there are no
// newer ones. They take the memory that they had there, so it does not matter whether it is short.
func (r *Room) AddValues(values []*Value) {
	for _, v := range values {
		if _, has := r.values.table.get(v.key()); !has {
			_ = r.setValue(v)
		}
	}
}

// Values returns the current values.
func (r *Room) Values() (values []*Value) {
	for _, c := range r.values.table.after(0) {
		if !c.gone {
			values = append(values, c.value)
		}
	}
	return values
}

// StampedValues returns the current values, and those that have removed a key, as far as the room
// remembers them.
func (r *Room) StampedValues() (values []*Value) {
	for _, c := range r.values.table.after(0) {
		values = append(values, c.value)
	}
	return values
}

// Message returns the message. The caller must not change its content.
func (v *Value) Message() broker.Message { return v.frames.Message }

// takesKey reports whether there is place for another key, if there may be so many times as many as
// usual. The frame with all keys must fit into a send queue.
func (r *Room) takesKey(key string, times int) bool {
	return r.values.table.len() < times*r.maxKeys() &&
		r.values.keys+wire.KeySize(key) <= times*r.cfg.QueueBytes/4
}

// maxKeys returns how many values there may be.
func (r *Room) maxKeys() int {
	if r.name == "" {
		return maxConnKeys
	}
	return maxRoomKeys
}

// keysFrame returns the frame that lists all keys.
func (vs *values) keysFrame(room string) *sendqueue.Frame {
	keys := make([]string, 0, vs.table.len())
	for key, c := range vs.table.cells {
		if !c.gone {
			keys = append(keys, key)
		}
	}
	return wire.LatestKeys(room, keys)
}
