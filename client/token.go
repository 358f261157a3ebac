package client

import (
	"context"
	"time"
)

// maxTokens is the number of calls of DialOptions.Token, and of Ticket, that may run at the same time.
const maxTokens = 8

// tokens gets tokens from the application. A function that does not return blocks nothing: its
// result is ignored after its context has ended, and the next attempt calls it again.
type tokens struct {
	fetch func(context.Context) (string, error) // nil: there are no tokens
	slots chan struct{}
}

func newTokens(fetch func(context.Context) (string, error)) *tokens {
	return &tokens{fetch: fetch, slots: make(chan struct{}, maxTokens)}
}

// next waits until ctx ends. It holds no lock while fetch runs, so fetch may use the client.
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
	result := make(chan answer, 1)
	go func() {
		defer func() { <-t.slots }()
		token, err := t.fetch(ctx)
		result <- answer{token, err}
	}()
	select {
	case a := <-result:
		return a.token, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// wait waits until no call runs, for one second at most, because a call may be waiting for Close.
func (t *tokens) wait() {
	deadline := time.NewTimer(closeTimeout)
	defer deadline.Stop()
	for range maxTokens {
		select {
		case t.slots <- struct{}{}:
		case <-deadline.C:
			return
		}
	}
}
