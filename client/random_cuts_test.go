package client_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// breakingConn is a connection that ends after a number of bytes, even inside a frame.
type breakingConn struct {
	net.Conn
	mu        sync.Mutex
	remaining int
}

// Read implements net.Conn.
func (f *breakingConn) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p[:min(len(p), f.consume(0)+1)])
	if err == nil && f.consume(n) == 0 {
		err = f.Close()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// Write implements net.Conn.
func (f *breakingConn) Write(p []byte) (int, error) {
	if left := f.consume(len(p)); left > 0 {
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:len(p)/2])
	_ = f.Close()
	return n, io.ErrClosedPipe
}

// consume returns the number of bytes that remain after n more.
func (f *breakingConn) consume(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remaining = max(0, f.remaining-n)
	return f.remaining
}

// TestRandomCuts tests that every message is accepted, that no client receives one twice or out of
// order, and that every missing message is covered by a gap, while connections end at random.
func TestRandomCuts(t *testing.T) {
	for seed := range long.Of(2, 5, 5) {
		for _, senders := range []int{1, 8} {
			t.Run(fmt.Sprintf("%d of %d", seed, senders), func(t *testing.T) {
				withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
					w.randomCuts(uint64(seed))
					alice, bob := w.dial("alice"), w.dial("bob")
					alice.join("lobby")
					bob.join("lobby")
					alice.sendNumbered(senders, 500/senders)
					w.wrapConns(nil)
					w.cutAll()
					bob.awaitReconnect()
					time.Sleep(time.Minute)
					require.NoError(t, alice.sendChat("lobby", "last"))
					require.Greater(t, w.dialCount(), 20)
					for _, r := range []*testClient{alice, bob} {
						log := r.received()
						requireInOrder(t, log, senders)
						require.Equal(t, `alice@lobby: "last"`, log[len(log)-1])
					}
				})
			})
		}
	}
}

func (w *testEnv) randomCuts(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	w.wrapConns(func(c net.Conn) net.Conn {
		return &breakingConn{Conn: c, remaining: 300 + random.IntN(6000)}
	})
}

// sendNumbered sends messages "sender.number" from several senders, those of each sender in order.
func (r *testClient) sendNumbered(senders, each int) {
	r.t.Helper()
	var work sync.WaitGroup
	for sender := range senders {
		work.Go(func() {
			for n := range each {
				if err := r.sendChat("lobby", fmt.Sprintf("%d.%d", sender, n)); err != nil {
					r.t.Errorf("%d.%d: %v", sender, n, err)
				}
			}
		})
	}
	work.Wait()
}

// requireInOrder checks the messages and gaps of one receiver.
func requireInOrder(t *testing.T, log []string, senders int) {
	t.Helper()
	next := make([]int, senders) // next number expected
	missing := make([]bool, senders)
	for i, line := range log {
		if strings.HasPrefix(line, "gap") {
			for s := range missing {
				missing[s] = true
			}
			continue
		}
		var s, n int
		if _, err := fmt.Sscanf(line, `alice@lobby: "%d.%d"`, &s, &n); err != nil {
			continue
		}
		require.GreaterOrEqual(t, n, next[s], "duplicate or out of order: %v", log[max(0, i-5):i+1])
		if !missing[s] {
			require.Equal(t, next[s], n, "missing without a gap: %v", log[max(0, i-5):i+1])
		}
		next[s], missing[s] = n+1, false
	}
}
