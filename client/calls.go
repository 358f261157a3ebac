package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxCalls is the number of calls from the server that run at the same time.
const maxCalls = 16

// calls answers calls from the server.
type calls struct {
	handle func(ctx context.Context, in realtime.Inbound) (any, error)
	work   *sync.WaitGroup
	slots  chan struct{} // has an element for each call that runs
	unsent chan struct{} // has an element for each answer that waits to be written
}

func newCalls(o *DialOptions, work *sync.WaitGroup) *calls {
	return &calls{
		handle: o.OnCall, work: work,
		slots: make(chan struct{}, maxCalls), unsent: make(chan struct{}, maxCalls),
	}
}

// serve answers a call and does not block. limit is the size of the largest answer, in bytes.
func (c *calls) serve(l *link, in incoming, limit int) {
	if c.handle == nil {
		l.tryAnswer(newAnswer(in.ID, nil, &realtime.Error{
			Code: wire.CodeNoMethod, Message: fmt.Sprintf("unknown method %q", in.Method),
		}))
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		l.tryAnswer(newAnswer(in.ID, nil, &realtime.Error{Code: "busy", Message: "too many calls"}))
		return
	}
	c.work.Go(func() {
		result, err := c.handle(l.ctx, realtime.Inbound{
			Method: in.Method, Message: realtime.Message{Content: in.Content, Binary: in.binary},
		})
		f := newAnswer(in.ID, result, err)
		if len(f.data) > limit {
			f = newAnswer(in.ID, nil, &realtime.Error{Code: wire.CodeTooLarge, Message: "answer too large"})
		}
		c.unsent <- struct{}{}
		<-c.slots // before the server can react to the answer
		l.sendAnswer(f)
		<-c.unsent
	})
}
