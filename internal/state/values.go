package state

import (
	"bytes"

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

// value is the current message of a key. After the key was removed, it is the message that did it.
type value struct {
	frames wire.Frames
	size   int // of the content, in bytes
}

// memory returns about how much memory a value takes, in bytes: its frames have the content again.
func (v *value) memory() int64 { return valueOverhead + 2*int64(v.size) }

// values are the current messages of a room.
type values struct {
	table  table[*value] // its version is zero before initValues
	used   bool          // there has been a value
	size   int           // of all contents, in bytes
	memory int64         // in bytes
	gone   int           // removed ones that memory includes
}

// initValues makes the table, before its first use.
func (r *Room) initValues() {
	if r.values.table.cells != nil {
		return
	}
	r.values.table = newTable[*value]()
	for _, reader := range r.readers {
		reader.values, reader.removed = r.values.table.version, r.values.table.version
	}
}

// SetValue makes a message the current value of its key, or removes the key if the content is null.
// It keeps no reference to the content. It returns ErrFull if the room has too many values.
func (r *Room) SetValue(m *broker.Message) error {
	r.initValues()
	vs := &r.values
	old, has := vs.table.get(m.Latest)
	gone := m.Binary == nil && wire.IsNull(m.Content)
	if gone && !has {
		return nil
	}
	v := &value{frames: wire.Frames{
		Message:  *m,
		Envelope: wire.Envelope{Room: r.name, Latest: true},
	}}
	stored := &v.frames.Message
	stored.Content, stored.Binary = bytes.Clone(m.Content), bytes.Clone(m.Binary)
	if r.name == "" {
		v.frames.Envelope.Conn = m.Conn
	}
	more, memory := 0, int64(0)
	if has {
		more, memory = -old.size, -old.memory()
	}
	if !gone {
		v.size = len(m.Content) + len(m.Binary)
		more, memory = more+v.size, memory+v.memory()
		if !has && vs.table.len() >= r.maxKeys() || more > 0 && vs.size+more > maxValueBytes ||
			!r.cfg.fits(memory) {
			return ErrFull
		}
	}
	r.cfg.Speakers.Encode(&v.frames)
	if gone {
		vs.table.remove(m.Latest, v)
	} else {
		vs.table.set(m.Latest, v)
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

// HasValues reports whether the room has or had values. Before that, its members need no readers.
func (r *Room) HasValues() bool { return r.values.used }

// Has reports whether there is a value of a key.
func (r *Room) Has(key string) bool {
	_, ok := r.values.table.get(key)
	return ok
}

// Messages returns the current values.
func (r *Room) Messages() (messages []broker.Message) {
	for _, c := range r.values.table.after(0) {
		if !c.gone {
			messages = append(messages, c.value.frames.Message)
		}
	}
	return messages
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
