package client

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/realtime-go/realtime/internal/wire"
)

// maxKeys is the number of keys of a room that are remembered. A server has fewer.
const maxKeys = 10_000

// values are the latest values of a room, or for the connection, that were received.
type values struct {
	version uint64            // that the client has; 0: none
	named   bool              // the next connection names the version
	held    bool              // over this connection, no join that names the version was answered
	types   map[string]string // message types by key
	earlier map[string]bool   // for the connection: keys that this connection has not received yet
}

// valuesFrame is a frame of type latest.
type valuesFrame struct {
	Room    string   `json:"room"`
	Keys    []string `json:"keys"` // all that exist; nil: the frame says nothing about them
	Version uint64   `json:"ver"`  // up to which the client has everything; 0: it says nothing
}

// note is called for each value.
func (v *values) note(m *Message) {
	v.named = true
	delete(v.earlier, m.Latest)
	switch {
	case m.Binary == nil && wire.IsNull(m.Content):
		delete(v.types, m.Latest)
	case len(v.types) < maxKeys || v.types[m.Latest] != "":
		if v.types == nil {
			v.types = make(map[string]string)
		}
		v.types[m.Latest] = m.Type
	}
}

// forget forgets the values whose keys are gone, and returns them as removed.
func (v *values) forget(room string, gone func(key string) bool) (removed []Message) {
	for _, key := range slices.Sorted(maps.Keys(v.types)) {
		if gone(key) {
			removed = append(removed, Message{
				Type: v.types[key], Room: room, Latest: key, Content: json.RawMessage("null"),
			})
			delete(v.types, key)
		}
	}
	return removed
}

// receiveValue queues a latest value for the consumer. Values are no part of the history, so they
// have neither an id nor a position.
func (ms *members) receiveValue(m Message) {
	m.ID, m.Position = "", position{}
	if m.Binary == nil && wire.IsNull(m.Content) {
		m.Content = json.RawMessage("null")
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if v := ms.valuesOf(m.Room); v != nil {
		v.note(&m)
	}
	ms.stream.pushValue(m)
}

// receiveLatest handles a frame of type latest, with its text.
func (ms *members) receiveLatest(text []byte) {
	var f valuesFrame
	if json.Unmarshal(text, &f) != nil {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	v := ms.valuesOf(f.Room)
	switch {
	case v == nil:
	case f.Keys != nil: // the values with other keys do not exist any more, and the others follow
		v.version, v.named = 0, true
		exist := make(map[string]bool, len(f.Keys))
		for _, key := range f.Keys {
			exist[key] = true
		}
		ms.forgetValues(v, f.Room, func(key string) bool { return !exist[key] })
	case f.Version == 0, f.Version > maxVersion:
	case v.held: // the server does not know yet what is missing
	default:
		v.version, v.named = f.Version, true
	}
}

// forgetValues tells the consumer that the values whose keys are gone were removed. ms.mu is held.
func (ms *members) forgetValues(v *values, room string, gone func(key string) bool) {
	for _, m := range v.forget(room, gone) {
		ms.stream.pushValue(m)
	}
}

// beginSession is called when there is a new connection. If it resumes no session, the values for
// the earlier ones do not exist any more.
func (ms *members) beginSession(resumes bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	v := &ms.values
	v.earlier = nil
	if !resumes {
		ms.forgetValues(v, "", func(string) bool { return true })
		return
	}
	v.earlier = make(map[string]bool, len(v.types))
	for key := range v.types {
		v.earlier[key] = true
	}
}

// notResumed is called by the reader when the server has refused to resume the session. The values
// that have arrived over this connection are of the new one.
func (ms *members) notResumed() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	v := &ms.values
	ms.forgetValues(v, "", func(key string) bool { return v.earlier[key] })
	v.earlier = nil
}

// valuesOf returns the values of a room, or those of the connection if room is empty. It returns nil
// for a room that the client does not know. ms.mu is held.
func (ms *members) valuesOf(room string) *values {
	if room == "" {
		return &ms.values
	}
	if r := ms.find(room); r != nil {
		return &r.values
	}
	return nil
}
