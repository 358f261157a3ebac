package realtime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A request whose caller has stopped waiting is forgotten.
func TestPendingRequestsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		defer m.Close()
		transport, far := Pipe(V1)
		defer far.Drop()
		c, err := m.Register(t.Context(), transport, Identity{})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Call(ctx, "m", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = c.Ping(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, c.session.Pending())
	})
}
