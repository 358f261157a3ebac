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

// fragile is a connection that ends after some bytes, in the middle of whatever they are.
type fragile struct {
	net.Conn
	mu   sync.Mutex
	left int
}

// Read is net.Conn.
func (f *fragile) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p[:min(len(p), f.take(0)+1)])
	if err == nil && f.take(n) == 0 {
		err = f.Close()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// Write is net.Conn.
func (f *fragile) Write(p []byte) (int, error) {
	if left := f.take(len(p)); left > 0 {
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:len(p)/2])
	_ = f.Close()
	return n, io.ErrClosedPipe
}

// take returns what is left after n bytes.
func (f *fragile) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = max(0, f.left-n)
	return f.left
}

// Whatever is cut whenever: every message is taken by the server, nobody sees one twice or out of
// order, and where one is missing there is a gap.
func TestCutAtRandom(t *testing.T) {
	for seed := range long.Of(2, 5, 5) {
		for _, senders := range []int{1, 8} {
			t.Run(fmt.Sprintf("%d of %d", seed, senders), func(t *testing.T) {
				bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
					w.randomCuts(uint64(seed))
					alice, bob := w.dial("alice"), w.dial("bob")
					alice.join("lobby")
					bob.join("lobby")
					alice.sayAll(senders, 500/senders)
					w.setWrap(nil)
					w.cut()
					bob.back()
					time.Sleep(time.Minute)
					require.NoError(t, alice.say("lobby", "last"))
					require.Greater(t, w.dialled(), 20)
					for _, r := range []*rig{alice, bob} {
						log := r.got()
						requireStory(t, log, senders)
						require.Equal(t, `alice@lobby: "last"`, log[len(log)-1])
					}
				})
			})
		}
	}
}

func (w *world) randomCuts(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	w.setWrap(func(c net.Conn) net.Conn { return &fragile{Conn: c, left: 300 + random.IntN(6000)} })
}

// sayAll sends "sender.number", each sender's one after another.
func (r *rig) sayAll(senders, each int) {
	r.t.Helper()
	var work sync.WaitGroup
	for sender := range senders {
		work.Go(func() {
			for n := range each {
				if err := r.say("lobby", fmt.Sprintf("%d.%d", sender, n)); err != nil {
					r.t.Errorf("%d.%d: %v", sender, n, err)
				}
			}
		})
	}
	work.Wait()
}

// requireStory checks what one receiver was told.
func requireStory(t *testing.T, log []string, senders int) {
	t.Helper()
	next := make([]int, senders) // number that is due
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
		require.GreaterOrEqual(t, n, next[s], "twice or out of order: %v", log[max(0, i-5):i+1])
		if !missing[s] {
			require.Equal(t, next[s], n, "missing without a gap: %v", log[max(0, i-5):i+1])
		}
		next[s], missing[s] = n+1, false
	}
}
