package sendqueue

// Priority says which frames a queue may drop when it is full.
type Priority uint8

// The priorities of queued frames.
const (
	// Message is subject to the [Policy] of the queue.
	Message Priority = iota
	// Notice is dropped as soon as the queue is half full or the budget is exceeded. It never
	// ends a queue.
	Notice
	// Ephemeral is dropped if more than 64 frames or 64 KiB wait, or if the budget is exceeded, and
	// also once queued, if a frame of the priority Message, Vital or Notice does not fit. It never
	// ends a queue.
	Ephemeral
	// Reply answers a request of the peer. It is never dropped. While too many replies wait, the
	// peer must not be read, see [Queue.WaitReplies].
	Reply
	// Vital is a frame that the peer must receive and has not asked for. If it does not fit it is
	// subject to the Policy. Once queued, it is never dropped to make room for another frame.
	Vital
)

// Policy determines how a queue handles a message that does not fit.
type Policy uint8

// The policies for slow consumers.
const (
	// Disconnect ends the queue with [ErrOverflow].
	Disconnect Policy = iota
	// DropOldest drops the oldest queued messages to make room.
	DropOldest
	// DropNewest drops the message that does not fit.
	DropNewest
	// Decline is DropNewest for a message that the caller keeps: it does not count as dropped.
	Decline
)

// ring is a FIFO of frames. The zero value is empty. A ring must not be copied after its first use.
type ring struct {
	slots []*Frame // the length is zero or a power of two
	head  int32
	n     int32
	bytes int
	first [2]*Frame // the first slots: most queues never hold more frames
}

const (
	firstSize = 8
	// keepSize is the largest size that an empty ring keeps: a burst must not hold memory for the
	// rest of the life of a connection.
	keepSize = 64
)

// push reports whether the ring has grown.
func (r *ring) push(f *Frame) (grown bool) {
	if grown = r.len() == len(r.slots); grown {
		r.grow()
	}
	r.slots[r.index(r.len())] = f
	r.n++
	r.bytes += f.Len()
	return grown
}

func (r *ring) len() int { return int(r.n) }

func (r *ring) grow() {
	if len(r.slots) == 0 {
		r.slots, r.head = r.first[:], 0
		return
	}
	bigger := make([]*Frame, max(firstSize, 2*len(r.slots)))
	for i := range r.len() {
		bigger[i] = r.at(i)
	}
	r.slots, r.head = bigger, 0
}

// at returns the i-th frame, the oldest being 0.
func (r *ring) at(i int) *Frame { return r.slots[r.index(i)] }

func (r *ring) index(i int) int { return (int(r.head) + i) & (len(r.slots) - 1) }

func (r *ring) pop() *Frame {
	f := r.slots[r.head]
	r.slots[r.head] = nil
	r.head = int32(r.index(1))
	r.n--
	r.bytes -= f.Len()
	if r.n == 0 && len(r.slots) > keepSize {
		r.slots, r.head = nil, 0
	}
	return f
}

// popAll appends all frames to frames and empties the ring. Unlike pop it does not read the frames:
// in a long queue, that is most of the work.
func (r *ring) popAll(frames []*Frame) []*Frame {
	head := int(r.head)
	end := head + r.len()
	size := len(r.slots)
	for _, part := range [2][]*Frame{r.slots[head:min(end, size)], r.slots[:max(0, end-size)]} {
		frames = append(frames, part...)
		clear(part)
	}
	r.head, r.n, r.bytes = 0, 0, 0
	if len(r.slots) > keepSize {
		r.slots = nil
	}
	return frames
}

// dropOldest removes and returns the oldest frame that may be dropped, or returns nil if there is
// none. The order of the other frames does not change.
func (r *ring) dropOldest() *Frame {
	i := 0
	for i < r.len() && r.at(i).priority >= Reply {
		i++
	}
	return r.remove(i)
}

// dropEphemeral removes and returns the oldest ephemeral frame, or returns nil if there is none. It
// looks only where there can be one: when it was pushed, few frames were before it.
func (r *ring) dropEphemeral() *Frame {
	last := min(r.len(), ephemeralMessages+1)
	for i := range last {
		if r.at(i).priority == Ephemeral {
			return r.remove(i)
		}
	}
	return nil
}

// remove removes and returns the i-th frame, or returns nil if there are not so many.
func (r *ring) remove(i int) *Frame {
	if i >= r.len() {
		return nil
	}
	victim := r.at(i)
	for ; i > 0; i-- {
		r.slots[r.index(i)] = r.at(i - 1)
	}
	r.slots[r.head] = victim
	return r.pop()
}

// extraBytes returns the size of the ring beyond keepSize.
func (r *ring) extraBytes() int64 { return entryBytes * int64(max(0, len(r.slots)-keepSize)) }

// clear empties the ring and returns the number of frames removed.
func (r *ring) clear() int {
	n := r.len()
	*r = ring{}
	return n
}
