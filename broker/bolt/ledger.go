package bolt

import (
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/share"
)

// maxLedger is how many entries all ledgers may have together. Beyond it all are discarded, and
// made again from the file when needed.
const maxLedger = 1 << 19

// sender is a sender that shares a stream with others.
type sender struct{ user, guest string }

func senderOf(m *broker.Message) sender { return sender{m.Sender, m.Guest} }

// ledger records how much of the unacknowledged part of a stream belongs to each sender. It belongs
// to the writer, and is made when the stream is half full.
type ledger struct {
	*share.Ledger[sender]
	number uint64 // of the stream
}

// hasShare reports whether the sender of p may have one more publication in the stream. While the
// stream is not half full, every sender may.
func (bt *batch) hasShare(h *head, st *state, p *broker.Publication) bool {
	by, size := senderOf(&p.Message), p.Size()
	bounds := share.Bounds{Messages: int64(p.Keep.Messages), Bytes: int64(p.Keep.Bytes)}
	kept := share.Usage{Messages: st.count, Bytes: st.bytes}
	if bounds.HasRoom(kept, kept, int64(size)) {
		return true
	}
	l := bt.ledger(h, st)
	l.Pass(st.floor, bt.now)
	if l.HasRoom(by, size, bounds) {
		return true
	}
	l.Pass(bt.acked(h.name, st), bt.now)
	return l.HasRoom(by, size, bounds)
}

// ledger returns the ledger of a stream, and makes it if there is none.
func (bt *batch) ledger(h *head, st *state) *ledger {
	b := bt.b
	l := b.ledgers[h]
	if l != nil && l.number == st.number && l.Next() == st.top+1 {
		return l
	}
	l = &ledger{share.NewLedger[sender](st.floor + 1), st.number}
	for l.Next() <= st.top {
		key := offsetKey(st.number, l.Next())
		r, ok := readRecord(key, bt.records.Get(key))
		if !ok { // the damage is reported when the record is read
			l.Add(sender{}, 0, 0)
			continue
		}
		p, _ := r.publication()
		l.Add(senderOf(&p.Message), r.size, share.Expiry(r.at, r.ttl, st.keep.Age))
	}
	if b.entries += l.Len(); b.entries > maxLedger {
		b.forgetLedgers()
		b.entries = l.Len()
	}
	b.ledgers[h] = l
	return l
}

// addToLedger adds a publication to the ledger of its stream, if there is one.
func (bt *batch) addToLedger(h *head, st *state, p *broker.Publication, size int) {
	if l := bt.b.ledgers[h]; l != nil {
		l.Add(senderOf(&p.Message), size, share.Expiry(st.used, p.Message.TTL, p.Keep.Age))
		bt.b.entries++
	}
}

// acked returns the offset up to which all readers of a stream have acknowledged.
func (bt *batch) acked(stream string, st *state) (offset uint64) {
	c := bt.cursors.Cursor()
	n := 0
	for key, value := c.Seek(nameKey(st.number, "")); ; key, value = c.Next() {
		if at, _ := splitKey(key); key == nil || at != st.number {
			return offset
		}
		if at, _ := bt.b.readCursor(stream, key, value); n == 0 || at < offset {
			offset = at
		}
		n++
	}
}

// forgetLedgers discards all ledgers, because they contain changes that were not committed, or have
// too many entries.
func (b *Broker) forgetLedgers() { b.ledgers, b.entries = map[*head]*ledger{}, 0 }
