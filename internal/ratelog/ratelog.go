// Package ratelog writes a log that nobody outside can flood.
package ratelog

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	// maxNotes bounds what notes remember of one kind: whoever can make us log can make up
	// names.
	maxNotes = 100
	// notePause is how long the same source is not heard of again.
	notePause = time.Second
	// maxSources bounds how many sources are known in that time. More are not heard of.
	maxSources = 1000
)

// notes writes the log, and sees to it that nobody outside can flood it. Safe for
// concurrent use.
type Notes struct {
	Base *slog.Logger

	mu     sync.Mutex
	seen   map[string]map[string]struct{} // by kind: what is written once
	recent map[occasion]*note
	purged time.Time
}

// occasion is who gave cause for a line, and what kind of line.
type occasion struct{ kind, who string }

type note struct {
	at   time.Time // of the line
	more int       // occasions since
}

// write writes a line, at most one of its text for each source in a second: what was left
// out is counted in the next one. who is an address or a connection.
func (n *Notes) Write(ctx context.Context, level slog.Level, who, text string, attrs ...slog.Attr) {
	if !n.Base.Enabled(ctx, level) {
		return
	}
	left, ok := n.turn(occasion{text, who}, time.Now())
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	n.Base.LogAttrs(ctx, level, text, attrs...)
}

// turn reports whether it is the source's turn, and how many it has missed.
func (n *Notes) turn(s occasion, now time.Time) (left int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.recent[s]
	if last == nil {
		if !n.room(now) {
			return 0, false
		}
		n.recent[s] = &note{at: now}
		return 0, true
	}
	if now.Sub(last.at) < notePause {
		last.more++
		return 0, false
	}
	left, last.at, last.more = last.more, now, 0
	return left, true
}

// room makes room for one more source, if it can. n.mu is held.
func (n *Notes) room(now time.Time) bool {
	if n.recent == nil {
		n.recent = make(map[occasion]*note)
	}
	if len(n.recent) < maxSources {
		return true
	}
	if now.Sub(n.purged) < notePause {
		return false
	}
	n.purged = now
	maps.DeleteFunc(n.recent, func(_ occasion, last *note) bool {
		return now.Sub(last.at) >= notePause
	})
	return len(n.recent) < maxSources
}

// hint writes a line about the configuration, once for what it is about, while there is room
// to remember that.
func (n *Notes) Hint(level slog.Level, kind, what, text string) {
	if n.first(kind, what) {
		n.Base.Log(context.Background(), level, text)
	}
}

// first reports whether what is new of its kind, and there is still room to remember it.
func (n *Notes) first(kind, what string) bool {
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
func Cut(s string) string { return s[:min(len(s), 64)] }
