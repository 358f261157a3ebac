package session

import (
	"context"
	"time"
)

// Context ends with the session; its cause is a *disconnect.CloseError then. Its values are those
// of the connection and of the context that Init was given.
func (s *Session) Context() context.Context { return (*sessionContext)(s) }

// sessionContext is the context of a session. Most sessions are only asked for values and whether
// they have ended, so that takes no memory of its own. A context of package context is made when
// someone wants to wait for the end, for example by deriving another context.
type sessionContext Session

// ending is a context without values that ends with the session.
type ending struct {
	context.Context
	cancel context.CancelCauseFunc
}

func (s *Session) setValues(ctx context.Context) {
	if s.values = ctx; ctx.Done() != nil {
		s.values = context.WithoutCancel(ctx)
	}
}

// waitable returns a context that ends with the session. End may not have seen it.
func (s *Session) waitable() *ending {
	e := s.ending.Load()
	if e == nil {
		e = &ending{}
		e.Context, e.cancel = context.WithCancelCause(context.Background())
		if !s.ending.CompareAndSwap(nil, e) {
			e = s.ending.Load()
		}
	}
	if why := s.Why(); why != nil {
		e.cancel(why)
	}
	return e
}

// cancelContext ends the context, after the session has ended.
func (s *Session) cancelContext() {
	if s.ending.Load() != nil {
		s.waitable()
	}
}

// Deadline implements context.Context. There is none.
func (*sessionContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *sessionContext) Done() <-chan struct{} { return (*Session)(c).waitable().Done() }

// Err implements context.Context.
func (c *sessionContext) Err() error {
	if s := (*Session)(c); s.Ended() {
		return s.waitable().Err()
	}
	return nil
}

// Value implements context.Context. By a key of its own, package context finds the context that it
// has made: then a derived context needs no goroutine, and context.Cause returns the cause.
func (c *sessionContext) Value(key any) any {
	s := (*Session)(c)
	if v := s.handler.Value(key); v != nil {
		return v
	}
	if s.ending.Load() != nil || s.Ended() {
		if v := s.waitable().Value(key); v != nil {
			return v
		}
	}
	return s.values.Value(key)
}

// String implements fmt.Stringer. Other goroutines may change what fmt would print without it.
func (*sessionContext) String() string { return "realtime.Conn.Context" }
