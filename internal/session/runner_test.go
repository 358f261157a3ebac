package session

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// slow is a Handler that counts commands and waits in each of them.
type slow struct {
	ignore
	goOn  chan struct{}
	begun int
}

func (h *slow) Command(wire.Command) {
	h.begun++
	<-h.goOn
}

// Commands that wait when the session ends are dropped at once, although the queue of the session
// is still being written.
func TestBacklogIsDroppedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe(wire.V1)
		h := &slow{goOn: make(chan struct{})}
		serve(near, far, h, func(s *Session, counters *metrics.Counters) {
			for range 3 {
				require.NoError(t, far.Write([]byte(`{"type":"ping","id":1}`)))
			}
			time.Sleep(handlerPatience + time.Second) // another goroutine reads while the handler runs
			require.Positive(t, s.Backlog())
			s.Expel(disconnect.CauseServer, disconnect.CloseNormal, "")
			close(h.goOn)
			synctest.Wait()
			require.Equal(t, 1, h.begun)
			require.Zero(t, s.Backlog())
			require.Zero(t, counters.Queues.Budget.Held())
		})
	})
}
