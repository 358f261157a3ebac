package bolt

import (
	"context"
	"fmt"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// Cursor returns the position up to which a reader has acknowledged a stream. It returns the zero
// Position if the stream does not exist. It waits for the disk if the reader is new and has a name.
func (b *Broker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	if err := checkKey("reader", len(reader)); err != nil {
		return broker.Position{}, err
	}
	if err := b.err(ctx); err != nil {
		return broker.Position{}, err
	}
	h, err := b.acquire(stream)
	if err != nil {
		return broker.Position{}, err
	}
	defer b.cache.unpin(h)
	r := reading{stream: stream, clock: &b.clock, now: b.clock.now()}
	at, there := h.position()
	switch {
	case at.Epoch == "", !there && reader == "":
		return at, nil
	case !there:
		return at, b.addReader(ctx, h, reader, at)
	}
	known := true
	r.page.Top = at
	err = b.store.view(func(tx *bbolt.Tx) error {
		if err := r.read(tx); err != nil {
			return err
		}
		key := nameKey(r.number, reader)
		value := tx.Bucket([]byte(bucketCursors)).Get(key)
		offset, ok := b.readCursor(stream, key, value)
		switch {
		case ok:
			at.Offset = min(at.Offset, offset)
		case reader == "" && value == nil:
			at.Offset = 0
		default:
			at.Offset, known = r.page.Floor, value != nil
		}
		return nil
	})
	if err == nil && !known {
		err = b.addReader(ctx, h, reader, at)
	}
	if err != nil {
		return broker.Position{}, err
	}
	return at, nil
}

// addReader records where a new reader begins. Publications that are discarded later and before the
// reader reads them are missing for it.
func (b *Broker) addReader(ctx context.Context, h *head, reader string, at broker.Position) error {
	b.cache.again(h)
	return b.submit(ctx, &task{heads: []*head{h}, size: len(reader), do: func(bt *batch) error {
		st := bt.state(h)
		key := nameKey(st.number, reader)
		if at != st.position(bt.era, at.Offset) || bt.cursors.Get(key) != nil {
			return nil // the stream has begun anew, or another task has added the reader
		}
		if st.number == 0 {
			h.expect(reader)
			return nil
		}
		bt.evictReader(h.name, st.number)
		bt.put(bt.cursors, key, sealNumber(key, at.Offset))
		return nil
	}})
}

// expect remembers a reader of a stream that is not in the file, as long as the head is in use.
func (h *head) expect(reader string) {
	if h.readers == nil {
		h.readers = map[string]struct{}{}
	}
	if len(h.readers) < maxReaders {
		h.readers[reader] = struct{}{}
	}
}

// readCursor returns the offset in a cursor. A reader whose cursor is damaged receives everything
// again.
func (b *Broker) readCursor(stream string, key, value []byte) (offset uint64, ok bool) {
	if value == nil {
		return 0, false
	}
	offset, ok = unsealNumber(key, value)
	if !ok {
		b.damaged(Damage{Stream: stream, What: "cursor"})
	}
	return offset, ok
}

// Ack moves the cursor of a reader forward. Publications that all readers have acknowledged stay
// until the bounds of the stream discard them, so that a client with its own position still finds
// them.
func (b *Broker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	if err := checkKey("reader", len(reader)); err != nil {
		return err
	}
	if err := b.err(ctx); err != nil {
		return err
	}
	h, err := b.acquire(stream)
	if err != nil {
		return err
	}
	return b.submit(ctx, &task{heads: []*head{h}, size: len(reader), do: func(bt *batch) error {
		return bt.ack(h, reader, at)
	}})
}

func (bt *batch) ack(h *head, reader string, at broker.Position) error {
	st := bt.state(h)
	if at.Offset > st.top || at != st.position(bt.era, at.Offset) {
		return fmt.Errorf("%w: %d of epoch %q", broker.ErrInvalidPosition, at.Offset, at.Epoch)
	}
	if st.number == 0 { // the stream has no publication yet
		return nil
	}
	key := nameKey(st.number, reader)
	was, ok := bt.b.readCursor(h.name, key, bt.cursors.Get(key))
	switch {
	case !ok:
		bt.evictReader(h.name, st.number)
	case was >= at.Offset:
		return nil
	}
	bt.put(bt.cursors, key, sealNumber(key, at.Offset))
	return nil
}

// maxReaders is how many cursors a stream has at most.
const maxReaders = 100

// evictReader forgets the reader with the lowest cursor, if there is no room for one more.
func (bt *batch) evictReader(stream string, number uint64) {
	var last []byte
	var behind uint64
	n := 0
	c := bt.cursors.Cursor()
	for key, value := c.Seek(nameKey(number, "")); ; key, value = c.Next() {
		if at, _ := splitKey(key); at != number {
			break
		}
		n++
		if offset, _ := bt.b.readCursor(stream, key, value); last == nil || offset < behind {
			last, behind = key, offset
		}
	}
	if n >= maxReaders {
		bt.remove(bt.cursors, last)
	}
}
