package realtime

import "sync"

// maxNotes bounds what notes remember: whoever can make us log can make up names.
const maxNotes = 100

// notes remembers what has been logged, so that it is logged once. The zero value is
// ready. Safe for concurrent use.
type notes struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// first reports whether what is new, and there is still room to remember it.
func (n *notes) first(what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, old := n.seen[what]; old || len(n.seen) >= maxNotes {
		return false
	}
	if n.seen == nil {
		n.seen = make(map[string]struct{})
	}
	n.seen[what] = struct{}{}
	return true
}
