package client

import (
	"context"
	"time"
)

// maxTokens is how many calls of DialOptions.Token may run that nobody waits for any more.
const maxTokens = 8

// tokens asks the application for tokens. A function that does not return holds up nothing: what
// it says after its context has ended is ignored, and for the next attempt it is called anew.
type tokens struct {
	fetch func(context.Context) (string, error) // nil: there are none
	slots chan struct{}
}

func newTokens(o *DialOptions) *tokens {
	return &tokens{fetch: o.Token, slots: make(chan struct{}, maxTokens)}
}

// next waits until ctx ends. No lock is held meanwhile, so the function may use the client.
func (t *tokens) next(ctx context.Context) (string, error) {
	type answer struct {
		token string
		err   error
	}
	if t.fetch == nil {
		return "", nil
	}
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	said := make(chan answer, 1)
	go func() {
		defer func() { <-t.slots }()
		token, err := t.fetch(ctx)
		said <- answer{token, err}
	}()
	select {
	case a := <-said:
		return a.token, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// settle waits until no call runs, for a second at most: the function may be what waits for us.
func (t *tokens) settle() {
	late := time.NewTimer(goodbyeTime)
	defer late.Stop()
	for range maxTokens {
		select {
		case t.slots <- struct{}{}:
		case <-late.C:
			return
		}
	}
}
