package session

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
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

// asker is a Handler whose first command gets answers that are too long for the client. It records
// how old each command is when its turn comes.
type asker struct {
	ignore
	queue *sendqueue.Queue
	goOn  chan struct{}
	ages  []time.Duration
}

func (h *asker) Command(cmd wire.Command) {
	h.ages = append(h.ages, time.Since(cmd.At))
	if len(h.ages) > 1 {
		return
	}
	<-h.goOn
	for range 3 {
		reply := sendqueue.NewFrame(sendqueue.OpText, make([]byte, 300<<10))
		h.queue.Push(reply, sendqueue.Reply, sendqueue.Disconnect)
	}
}

// A command that waits for the client to read its answers has the time at which its turn came.
func TestTimeOfACommandThatWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe(wire.V1)
		h := &asker{goOn: make(chan struct{})}
		serve(near, far, h, func(s *Session, _ *metrics.Counters) {
			h.queue = s.Queue()
			for range 2 {
				require.NoError(t, far.Write([]byte(`{"type":"ping","id":1}`)))
			}
			time.Sleep(handlerPatience + time.Second)
			require.Positive(t, s.Backlog())
			close(h.goOn)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			require.Len(t, h.ages, 1, "the second command waits")
			for range 3 {
				_, _, err := far.Read(t.Context())
				require.NoError(t, err)
			}
			synctest.Wait()
			require.Equal(t, []time.Duration{0, 0}, h.ages)
		})
	})
}

// A session that waits for its client to read answers is not read, so its silence does not count,
// although it was parked before.
func TestSilenceWhileTheClientReadsNoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe(wire.V1)
		h := &asker{goOn: make(chan struct{})}
		serve(near, far, h, func(s *Session, _ *metrics.Counters) {
			h.queue = s.Queue()
			require.NoError(t, far.Write([]byte(`{"type":"ping","id":1}`)))
			time.Sleep(handlerPatience + quietTime + 2*lookInterval)
			require.True(t, s.watch.parked.Load())
			require.NotZero(t, s.Silence())
			close(h.goOn)
			synctest.Wait()
			require.NoError(t, far.Write([]byte(`{"type":"ping","id":2}`)))
			time.Sleep(time.Second)
			require.Zero(t, s.Silence())
		})
	})
}
