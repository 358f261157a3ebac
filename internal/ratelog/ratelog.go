// Package ratelog provides a logger that limits the rate of its lines.
package ratelog

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	// maxSubjects bounds how many subjects Once remembers of one kind: a client that can cause a
	// line can invent subjects.
	maxSubjects = 100
	// maxSources bounds how many pairs of source and text are known within a pause. Lines of
	// further pairs are dropped.
	maxSources = 1000
)

// Logger writes to a slog.Logger. It limits the number of lines, so that peers cannot flood the
// log. A Logger is safe for concurrent use.
type Logger struct {
	base  *slog.Logger
	pause time.Duration // the least time between two lines with the same source and text

	mu     sync.Mutex
	once   map[string]map[string]struct{} // subjects that Once has logged, by kind
	recent map[origin]*line
	purged time.Time
}

// origin identifies the lines that share a limit.
type origin struct{ text, source string }

type line struct {
	at      time.Time // when it was last written
	skipped int       // how often it has been left out since
}

// New returns a Logger that writes to base, with at least a pause between two lines with the same
// source and text.
func New(base *slog.Logger, pause time.Duration) *Logger { return &Logger{base: base, pause: pause} }

// Log writes a line. It writes at most one line with the same source and text within a pause, and
// adds the number of lines that it left out to the next one. The source is an address or a connection.
func (l *Logger) Log(
	ctx context.Context, level slog.Level, source, text string, attrs ...slog.Attr,
) {
	if !l.base.Enabled(ctx, level) {
		return
	}
	skipped, ok := l.allow(origin{text, source}, time.Now())
	if !ok {
		return
	}
	if skipped > 0 {
		attrs = append(attrs, slog.Int("left_out", skipped))
	}
	l.base.LogAttrs(ctx, level, text, attrs...)
}

// allow reports whether a line may be written, and how many were left out since the previous one.
func (l *Logger) allow(o origin, now time.Time) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.recent[o]
	if last == nil {
		if !l.makeRoom(now) {
			return 0, false
		}
		l.recent[o] = &line{at: now}
		return 0, true
	}
	if now.Sub(last.at) < l.pause {
		last.skipped++
		return 0, false
	}
	skipped, last.at, last.skipped = last.skipped, now, 0
	return skipped, true
}

// makeRoom reports whether one more origin can be stored, and removes old ones if necessary.
// l.mu is held.
func (l *Logger) makeRoom(now time.Time) bool {
	if l.recent == nil {
		l.recent = make(map[origin]*line)
	}
	if len(l.recent) < maxSources {
		return true
	}
	if now.Sub(l.purged) < l.pause {
		return false
	}
	l.purged = now
	maps.DeleteFunc(l.recent, func(_ origin, last *line) bool {
		return now.Sub(last.at) >= l.pause
	})
	return len(l.recent) < maxSources
}

// Once writes a line about the configuration, once for each kind and subject. It writes nothing
// if it already remembers 100 subjects of the kind.
func (l *Logger) Once(level slog.Level, kind, subject, text string) {
	if l.first(kind, subject) {
		l.base.Log(context.Background(), level, text)
	}
}

// first reports whether the subject is new and could be stored.
func (l *Logger) first(kind, subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	subjects := l.once[kind]
	if _, known := subjects[subject]; known || len(subjects) >= maxSubjects {
		return false
	}
	if subjects == nil {
		subjects = make(map[string]struct{})
		if l.once == nil {
			l.once = make(map[string]map[string]struct{})
		}
		l.once[kind] = subjects
	}
	subjects[subject] = struct{}{}
	return true
}

// Clip returns the first 64 bytes of a text from a peer, for log lines and answers.
func Clip(s string) string { return s[:min(len(s), 64)] }
