package bolt

import (
	"encoding/binary"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// An id is remembered for idAge; after that, as long as its publication is kept and at most
// idPublications newer ones exist.
const (
	idAge          = 2 * time.Minute
	idPublications = 1000
)

// These are how many ids are checked with each publication, and by the sweeper.
const (
	idsAtOnce  = 8
	idsInSweep = 1000
)

// known returns the offset of the publication that already has the id of m.
func (bt *batch) known(st *state, m *broker.Message) (offset uint64, ok bool) {
	if m.ID == "" || st.number == 0 {
		return 0, false
	}
	key := nameKey(st.number, idName(m))
	value := bt.ids.Get(key)
	if value == nil {
		return 0, false
	}
	if offset, ok = unsealNumber(key, value); !ok {
		bt.b.damaged(Damage{What: "id"})
	}
	return offset, ok
}

// remember records the id of the newest publication.
func (bt *batch) remember(st *state, m *broker.Message) {
	if m.ID == "" {
		return
	}
	name := idName(m)
	key := nameKey(st.number, name)
	bt.put(bt.ids, key, sealNumber(key, st.top))
	key = offsetKey(st.number, st.top)
	value := make([]byte, sumBytes, sumBytes+8+len(name))
	value = append(binary.BigEndian.AppendUint64(value, uint64(st.used)), name...)
	bt.put(bt.order, key, seal(key, value))
	st.ids++
}

// expireIDs forgets up to n ids of a stream, the oldest first, that need not be remembered.
func (bt *batch) expireIDs(st *state, n int) {
	for range n {
		if st.ids == 0 || bt.err != nil {
			return
		}
		key, value := bt.order.Cursor().Seek(nameKey(st.number, ""))
		offset, ok := offsetOf(key, st.number)
		if !ok {
			st.ids = 0
			return
		}
		p, ok := unseal(key, value)
		if ok && len(p) >= 8 {
			since := int64(binary.BigEndian.Uint64(p))
			recent := bt.now.UnixNano()-since < int64(idAge)
			kept := offset > st.floor && st.top-offset <= idPublications
			if recent || kept {
				return
			}
		}
		bt.forgetID(st, key, value)
	}
}

// forgetID removes an entry of the order, and the id that belongs to it.
func (bt *batch) forgetID(st *state, key, value []byte) {
	if p, ok := unseal(key, value); ok && len(p) >= 8 {
		bt.remove(bt.ids, nameKey(st.number, string(p[8:])))
	} else {
		bt.b.damaged(Damage{What: "id"})
	}
	bt.remove(bt.order, key)
	st.ids--
}
