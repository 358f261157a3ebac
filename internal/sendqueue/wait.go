package sendqueue

// WaitReplies blocks while too many replies to the peer wait to be written, until
// some are, or the link ends. Whoever reads from the peer calls it before he reads
// on: a peer that asks and does not read the answers is not read either.
func (l *Queue) WaitReplies() {
	most, mostBytes := maxReplies, maxReplyBytes
	l.wait(func() bool {
		ready := l.sealed || l.replies <= most && l.answer <= mostBytes
		most, mostBytes = maxReplies/2, maxReplyBytes/2 // it is worth while to go on then
		return ready
	})
}

// WaitSpace blocks until no more than a quarter of the queue is taken, and reports false if the
// link ends. Whoever has a lot to push, and can push it later too, calls it before each part.
func (l *Queue) WaitSpace() bool {
	space := false
	l.wait(func() bool {
		space = !l.sealed && l.queue.len() <= l.cfg.maxMessages()/4 &&
			l.queue.bytes <= l.cfg.maxBytes()/4
		return space || l.sealed
	})
	return space
}

// WaitWritten blocks until what had been pushed when Counts.Through was n is written, and reports
// false if some of it is not going to be. What was dropped of it is not waited for.
func (l *Queue) WaitWritten(n uint64) bool {
	complete := false
	l.wait(func() bool {
		over := l.flying == 0 && l.queue.len() == 0
		complete = l.written >= n || over && l.lost == 0
		return complete || over
	})
	return complete
}

// waitEars blocks until no more is expected of the peer than this, or the link has ended.
func (l *Queue) waitEars(e ears) {
	l.wait(func() bool { return l.ears >= e || l.state == Dead })
}

// wait blocks until ready, which is called with l.mu held.
func (l *Queue) wait(ready func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ready() {
		if l.news == nil {
			l.news = make(chan struct{})
		}
		news := l.news
		l.mu.Unlock()
		<-news
		l.mu.Lock()
	}
}

// tell wakes who waits. l.mu is held.
func (l *Queue) tell() {
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}
