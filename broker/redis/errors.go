package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/realtime-go/realtime/broker"
)

var (
	errClosed  = fmt.Errorf("redis: %w", broker.ErrClosed)
	errCut     = fmt.Errorf("redis: %w", broker.ErrUnavailable)
	errTimeout = errors.New("redis: timeout")
	errReply   = errors.New("redis: the server has returned something unexpected")
)

// passing are the beginnings of the errors of a server that will go away by themselves, or when
// another server takes its place.
var passing = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "BUSY",
	"UNKILLABLE", "MOVED", "ASK", "NOSCRIPT", "UNBLOCKED",
}

// failure returns the error of a call for an error of the client. outer is the context of the
// caller, which has no timeout of ours.
func (b *Broker) failure(outer context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case outer.Err() != nil:
		return context.Cause(outer)
	case b.ctx.Err() != nil:
		return errClosed
	}
	answer, ok := errors.AsType[*rueidis.RedisError](err)
	if !ok {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	// An error within a script may have words of the script around it.
	text := answer.Error()
	if strings.HasPrefix(text, "OOM") || strings.Contains(text, "-OOM") {
		return fmt.Errorf("redis: %w: %w", broker.ErrFull, err)
	}
	for _, word := range passing {
		if strings.HasPrefix(text, word) {
			return fmt.Errorf("%w: %w", errCut, err)
		}
	}
	return fmt.Errorf("redis: %w", err)
}
