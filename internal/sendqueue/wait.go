package sendqueue

// WaitReplies blocks while too many replies wait to be written, until at most half of that number
// wait or the queue is closed. The goroutine that reads from the peer must call it before each
// read: a peer that sends requests and does not read the replies is not read either.
func (q *Queue) WaitReplies() {
	if !q.manyReplies.Load() {
		return
	}
	most, mostBytes := maxReplies, maxReplyBytes
	q.wait(func() bool {
		ready := q.sealed || q.replies <= most && q.replyBytes <= mostBytes
		most, mostBytes = maxReplies/2, maxReplyBytes/2 // do not wake for a single reply
		if ready {
			q.manyReplies.Store(false)
		}
		return ready
	})
}

// WaitSpace blocks until at most a quarter of the queue is in use, and reports false if the queue
// is closed. A sender of many frames that are not urgent should call it before each part.
func (q *Queue) WaitSpace() bool {
	space := false
	q.wait(func() bool {
		space = !q.sealed && q.ring.len() <= q.cfg.maxMessages()/4 &&
			q.ring.bytes <= q.cfg.maxBytes()/4
		return space || q.sealed
	})
	return space
}

// WaitWritten blocks until all frames that had been pushed when Counts.Through returned n are
// written, and reports false if some of them are lost. It does not wait for dropped frames.
func (q *Queue) WaitWritten(n uint64) bool {
	complete := false
	q.wait(func() bool {
		over := q.inFlight == 0 && q.ring.len() == 0
		complete = q.written >= n || over && q.lost == 0
		return complete || over
	})
	return complete
}

// waitPeer blocks until the peer has reached the state s or the queue is dead.
func (q *Queue) waitPeer(s peerState) {
	q.wait(func() bool { return q.peer >= s || q.state == Dead })
}

// wait blocks until ready returns true. It calls ready with q.mu held.
func (q *Queue) wait(ready func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !ready() {
		if q.changed == nil {
			q.changed = make(chan struct{})
		}
		changed := q.changed
		q.mu.Unlock()
		<-changed
		q.mu.Lock()
	}
}

// notify makes all waiting goroutines check again. q.mu is held.
func (q *Queue) notify() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}
