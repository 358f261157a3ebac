package client

import (
	"encoding/json"
	"maps"
	"slices"
)

// maxKeys is the number of keys of a room that are remembered. A server has fewer.
const maxKeys = 10_000

// values are the latest values of a room, or for the connection, that were received.
type values struct {
	version uint64            // the newest; 0: none
	named   bool              // the next join names the version
	held    bool              // over this connection, no join that names the version was answered
	types   map[string]string // message types by key
}

// valuesFrame is a frame of type latest.
type valuesFrame struct {
	Room string   `json:"room"`
	Keys []string `json:"keys"` // all that exist
}

// note is called for each value.
func (v *values) note(m *Message, version uint64) {
	if version <= maxVersion && !v.held { // otherwise the server does not know yet what is missing
		v.version = max(v.version, version)
		v.named = v.version > 0
	}
	switch {
	case m.Binary == nil && isNull(m.Content):
		delete(v.types, m.Latest)
	case len(v.types) < maxKeys || v.types[m.Latest] != "":
		if v.types == nil {
			v.types = make(map[string]string)
		}
		v.types[m.Latest] = m.Type
	}
}

// forgetOthers forgets the values whose keys are not among these, and returns them as removed.
func (v *values) forgetOthers(room string, keys []string) (removed []Message) {
	exist := make(map[string]bool, len(keys))
	for _, key := range keys {
		exist[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(v.types)) {
		if !exist[key] {
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
func (ms *members) receiveValue(m Message, version uint64) {
	m.ID, m.Position = "", position{}
	if m.Binary == nil && isNull(m.Content) {
		m.Content = json.RawMessage("null")
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if v := ms.valuesOf(m.Room); v != nil {
		v.note(&m, version)
	}
	ms.stream.pushValue(m)
}

// receiveKeys handles a frame of type latest, with its text: the values with other keys do not
// exist any more. The others follow, with versions that may be smaller.
func (ms *members) receiveKeys(text []byte) {
	var f valuesFrame
	if json.Unmarshal(text, &f) != nil || f.Keys == nil {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	v := ms.valuesOf(f.Room)
	if v == nil {
		return
	}
	v.version, v.named = 0, true
	for _, m := range v.forgetOthers(f.Room, f.Keys) {
		ms.stream.pushValue(m)
	}
}

// valuesOf returns the values of a room, or those of the connection if room is empty. It returns
// nil for a room that the client does not know. ms.mu is held.
func (ms *members) valuesOf(room string) *values {
	if room == "" {
		return &ms.values
	}
	if r := ms.find(room); r != nil {
		return &r.values
	}
	return nil
}
