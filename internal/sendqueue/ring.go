package sendqueue

// Class says what a queue may do with a frame when it has no room.
type Class uint8

// The classes of frames in a queue.
const (
	// Message is subject to the link's [Policy].
	Message Class = iota
	// Notice is dropped as soon as the queue is half full, and never ends a link.
	Notice
	// Reply answers the peer itself. It is never dropped; the peer is not read
	// while too many wait, see [Link.WaitReplies].
	Reply
	// Vital is what a connection must not miss and has not asked for: like a Message it is
	// subject to the link's Policy, but never dropped for another frame.
	Vital
)

// Policy says what happens to a message for which a queue has no room.
type Policy uint8

// The policies of a slow consumer.
const (
	// Disconnect ends the link with [ErrOverflow].
	Disconnect Policy = iota
	// DropOldest makes room by dropping what has waited longest.
	DropOldest
	// DropNewest drops the message at hand.
	DropNewest
)

// ring is a ring of frames, in the order in which they were pushed. Its zero value is
// empty. It must not be copied once it is used.
type ring struct {
	ring  []*Frame // length is a power of two, or zero
	head  int32
	n     int32
	bytes int
	one   [2]*Frame // the first ring: most queues never hold more
}

const (
	firstRing = 8
	// keepRing is the largest ring that an empty queue holds on to: a burst must
	// not pin its peak for the rest of the connection's life.
	keepRing = 64
)

// push reports whether the ring has grown.
func (q *ring) push(f *Frame) (grown bool) {
	if grown = q.len() == len(q.ring); grown {
		q.grow()
	}
	q.ring[q.slot(q.len())] = f
	q.n++
	q.bytes += f.Len()
	return grown
}

func (q *ring) len() int { return int(q.n) }

func (q *ring) grow() {
	if len(q.ring) == 0 {
		q.ring, q.head = q.one[:], 0
		return
	}
	bigger := make([]*Frame, max(firstRing, 2*len(q.ring)))
	for i := range q.len() {
		bigger[i] = q.at(i)
	}
	q.ring, q.head = bigger, 0
}

// at returns the i-th frame from the front.
func (q *ring) at(i int) *Frame { return q.ring[q.slot(i)] }

func (q *ring) slot(i int) int { return (int(q.head) + i) & (len(q.ring) - 1) }

func (q *ring) pop() *Frame {
	f := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = int32(q.slot(1))
	q.n--
	q.bytes -= f.Len()
	if q.n == 0 && len(q.ring) > keepRing {
		q.ring, q.head = nil, 0
	}
	return f
}

// popAll appends all frames to frames and empties the queue. It does not look at them, as pop does:
// where many wait, that is most of the work.
func (q *ring) popAll(frames []*Frame) []*Frame {
	head := int(q.head)
	end := head + q.len()
	size := len(q.ring)
	for _, part := range [2][]*Frame{q.ring[head:min(end, size)], q.ring[:max(0, end-size)]} {
		frames = append(frames, part...)
		clear(part)
	}
	q.head, q.n, q.bytes = 0, 0, 0
	if len(q.ring) > keepRing {
		q.ring = nil
	}
	return frames
}

// dropOldest removes and returns the frame that has waited longest and may be dropped,
// or nil if there is none. Those in front of it that may not be keep their order.
func (q *ring) dropOldest() *Frame {
	i := 0
	for i < q.len() && q.at(i).class >= Reply {
		i++
	}
	if i == q.len() {
		return nil
	}
	victim := q.at(i)
	for ; i > 0; i-- {
		q.ring[q.slot(i)] = q.at(i - 1)
	}
	q.ring[q.head] = victim
	return q.pop()
}

// burden returns how many bytes the ring takes beyond what an empty queue may keep.
func (q *ring) burden() int64 { return entryBytes * int64(max(0, len(q.ring)-keepRing)) }

// clear empties the queue and returns how many frames it held.
func (q *ring) clear() int {
	n := q.len()
	*q = ring{}
	return n
}
