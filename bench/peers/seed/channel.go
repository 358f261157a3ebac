package main

import "sync"

// capacity is the number of messages by which a receiver may lag before it loses the oldest, as in
// the channel of the seed.
const capacity = 1000

// subscription is the receiving end of the broadcast channel for one connection.
type subscription chan message

var (
	mu   sync.RWMutex
	subs = make(map[subscription]struct{})
)

func subscribe() subscription {
	s := make(subscription, capacity)
	mu.Lock()
	defer mu.Unlock()
	subs[s] = struct{}{}
	return s
}

func (s subscription) cancel() {
	mu.Lock()
	defer mu.Unlock()
	delete(subs, s)
}

func broadcast(m message) {
	mu.RLock()
	defer mu.RUnlock()
	for s := range subs {
		s.push(m)
	}
}

func (s subscription) push(m message) {
	for {
		select {
		case s <- m:
			return
		default:
		}
		select {
		case <-s:
		default:
		}
	}
}
