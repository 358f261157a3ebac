package realtime

import "sync"

// maxNotes bounds what notes remember of one kind: whoever can make us log can make up
// names.
const maxNotes = 100

// notes remembers what has been logged, so that it is logged once. The zero value is
// ready. Safe for concurrent use.
type notes struct {
	mu   sync.Mutex
	seen map[string]map[string]struct{} // by kind
}

// first reports whether what is new of its kind, and there is still room to remember it.
func (n *notes) first(kind, what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.seen[kind]
	if _, old := of[what]; old || len(of) >= maxNotes {
		return false
	}
	if of == nil {
		of = make(map[string]struct{})
		if n.seen == nil {
			n.seen = make(map[string]map[string]struct{})
		}
		n.seen[kind] = of
	}
	of[what] = struct{}{}
	return true
}

// cut shortens a peer's words for the log and for answers.
func cut(s string) string { return s[:min(len(s), 64)] }
