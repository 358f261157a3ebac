package session

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/transport"
)

// one is a Handler with a value.
type one struct{ ignore }

func (one) Value(key any) any {
	if key == "one" {
		return 1
	}
	return nil
}

// A context of a session behaves like one of package context with a cause, whether it is first used
// before or after the end.
func TestContext(t *testing.T) {
	why := &disconnect.CloseError{Cause: disconnect.CauseServer, Code: disconnect.CloseNormal}
	for name, use := range map[string]func(context.Context){
		"not used": func(context.Context) {},
		"done":     func(ctx context.Context) { ctx.Done() },
		"err":      func(ctx context.Context) { _ = ctx.Err() },
		"values":   func(ctx context.Context) { ctx.Value("two") },
		"cause":    func(ctx context.Context) { _ = context.Cause(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := transport.Pipe()
				serve(near, far, one{}, func(s *Session, _ *metrics.Counters) {
					ctx := s.Context()
					use(ctx)
					require.NoError(t, ctx.Err())
					require.NoError(t, context.Cause(ctx))
					require.Equal(t, 1, ctx.Value("one"))
					require.Nil(t, ctx.Value("two"))
					s.End(why, time.Second)
					require.Equal(t, context.Canceled, ctx.Err())
					require.Equal(t, why, context.Cause(ctx))
					<-ctx.Done()
					require.Equal(t, 1, ctx.Value("one"))
					child, cancel := context.WithTimeout(ctx, time.Hour)
					defer cancel()
					require.Equal(t, why, context.Cause(child))
					_, limited := ctx.Deadline()
					require.False(t, limited)
				})
			})
		})
	}
}

// A derived context ends with the session and needs no goroutine.
func TestDerivedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe()
		serve(near, far, one{}, func(s *Session, _ *metrics.Counters) {
			synctest.Wait()
			before := runtime.NumGoroutine()
			child, cancel := context.WithCancel(s.Context())
			defer cancel()
			ended := make(chan struct{})
			context.AfterFunc(s.Context(), func() { close(ended) })
			require.Equal(t, before, runtime.NumGoroutine())
			require.Equal(t, 1, child.Value("one"))
			s.Expel(disconnect.CauseServer, disconnect.CloseNormal, "")
			<-ended
			<-child.Done()
			require.Equal(t, s.Why(), context.Cause(child))
			require.NotContains(t, fmt.Sprint(child, s.Context()), "0x", "the session is not printed")
		})
	})
}

// The context that was given to Init gives its values, and its end has no effect.
func TestContextOfInit(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
	s := &Session{handler: one{}}
	s.setValues(ctx)
	cancel(context.Canceled)
	require.NoError(t, s.Context().Err())
	require.NoError(t, context.Cause(s.Context()))
	require.Equal(t, "value", s.Context().Value(key{}))
}
