package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Connections are lost, resumed, ended and banned in the middle of random requests. In the end
// nothing counts in the memory budget.
func TestMemoryIsReleasedAfterChurn(t *testing.T) {
	for seed := range uint64(3) {
		o := keeping(1000)
		o.Inbox.Keep = realtime.Retention{Messages: 1000}
		o.Timeouts.Resume, o.Limits.ConnsPerUser, o.Limits.QueueMessages = 50*time.Millisecond, -1, 32
		o.Limits.InboundRate, o.Limits.InboundFanout, o.Limits.Conns = -1, -1, -1
		bubble(t, o, func(t *testing.T, b *bed) {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() { b.churn(rand.New(rand.NewPCG(seed, uint64(i))), i) })
			}
			all.Wait()
			synctest.Wait()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			s := b.Stats()
			require.Zero(t, s.Conns)
			require.Zero(t, s.MemoryBytes, "%+v", s)
		})
	}
}

// churn connects again and again, sends many requests and reads slowly.
func (b *bed) churn(dice *rand.Rand, i int) {
	user := fmt.Sprint("u", i%4)
	if i >= 6 {
		user = ""
	}
	token := ""
	for range 60 {
		transport, far := realtime.Pipe(realtime.V1)
		c, err := b.Register(b.t.Context(), transport, realtime.Identity{UserID: user})
		if err != nil {
			continue
		}
		last := token
		token = b.sessionToken(far, token)
		ctx, cancel := context.WithCancel(b.t.Context())
		read := make(chan struct{})
		slow := time.Duration(dice.IntN(3)) * time.Millisecond
		go func() {
			defer close(read)
			for {
				if _, _, err := far.Read(ctx); err != nil {
					return
				}
				time.Sleep(slow)
			}
		}()
		b.sendRandomRequests(dice, far, c, last)
		switch dice.IntN(4) {
		case 0:
			far.Close(realtime.CloseNormal, "")
		case 1:
			_ = c.Close(realtime.CloseRefused, "")
		}
		if dice.IntN(2) == 0 {
			time.Sleep(time.Duration(dice.IntN(20)) * time.Millisecond)
		}
		far.Drop()
		cancel()
		<-read
	}
}

// sendRandomRequests sends requests of all kinds.
func (b *bed) sendRandomRequests(dice *rand.Rand, far *realtime.PipeClient, c *realtime.Conn, last string) {
	if dice.IntN(2) == 0 {
		_ = far.Write(fmt.Appendf(nil, `{"type":"resume","id":1,"session":%q}`, last))
	}
	for range dice.IntN(30) {
		room := []string{"a", "b", "c"}[dice.IntN(3)]
		switch dice.IntN(8) {
		case 0:
			_ = far.Write(fmt.Appendf(nil, `{"type":"join","id":1,"room":%q,"since":{"epoch":"x","offset":1}}`, room))
		case 1:
			_ = far.Write(fmt.Appendf(nil, `{"type":"join","id":1,"room":%q,"history":100}`, room))
		case 2:
			_ = far.Write(fmt.Appendf(nil, `{"type":"leave","id":1,"room":%q}`, room))
		case 3:
			_ = far.Write(fmt.Appendf(nil, `{"type":"presence","id":1,"room":%q}`, room))
		case 4:
			_ = far.Write(fmt.Appendf(nil, `{"type":"history","id":1,"room":%q}`, room))
		case 5:
			_ = far.Write(fmt.Appendf(nil, `{"type":"send","id":"m%d","room":%q,"content":"x"}`, dice.IntN(50), room))
		case 6:
			to := realtime.ToRoom("a", "b").Union(realtime.ToUser("u1", "u2")).Union(realtime.ToConn(c.ID()))
			_, _ = b.Send(b.t.Context(), to, realtime.Message{Content: json.RawMessage(`"union"`)})
		default:
			if dice.IntN(10) == 0 {
				_, _ = b.Room(room).Remove(b.t.Context(), c.UserID())
			}
		}
	}
}

// Nothing remains of a room after its last member has left.
func TestEmptyRoomsAreRemoved(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for i := range 400 {
			room := `"room":"` + strings.Repeat("r", i%200+1) + `"`
			require.NoError(t, alice.Write([]byte(`{"type":"join",`+room+`}`)))
			require.NoError(t, alice.Write([]byte(`{"type":"leave",`+room+`}`)))
		}
		require.Empty(t, alice.raw())
		require.Zero(t, b.Stats().Rooms)
	})
}
