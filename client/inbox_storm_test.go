package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// post is a server with an inbox, which has a message for each number up to top.
type post struct {
	t      *testing.T
	top    atomic.Int64
	cursor atomic.Int64 // what has been acknowledged
	taken  atomic.Int64 // what the application is done with
}

// ServeHTTP is http.Handler. Its connections may end anywhere.
func (p *post) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{realtime.V1}})
	if err != nil {
		return
	}
	defer func() { _ = ws.CloseNow() }()
	gone := make(chan struct{})
	at := p.cursor.Load()
	hello := `{"message_type":"welcome","content":{"max_message_bytes":65536` + cursor(int(at)) + `}}`
	if write(r.Context(), ws, hello) != nil {
		return
	}
	go func() {
		defer close(gone)
		for p.serve(r.Context(), ws) {
		}
	}()
	for ; err == nil; time.Sleep(100 * time.Millisecond) {
		for ; err == nil && at < p.top.Load(); at++ {
			err = write(r.Context(), ws, fmt.Sprintf(`{"message_type":"chat","sender_id":"bob",`+
				`"content":%d,"offset":%d,"prev":%d,"epoch":"i1"}`, at+1, at+1, at))
		}
		select {
		case <-gone:
			return
		default:
		}
	}
	_ = ws.CloseNow()
	<-gone
}

// serve answers a request, and reports whether it did.
func (p *post) serve(ctx context.Context, ws *websocket.Conn) bool {
	_, data, err := ws.Read(ctx)
	if err != nil {
		return false
	}
	var a asked
	if json.Unmarshal(data, &a) != nil {
		return write(ctx, ws, "pong") == nil
	}
	if a.Type == "ack" {
		if taken := p.taken.Load(); int64(a.Offset) > taken {
			p.t.Errorf("ack of %d: taken are %d", a.Offset, taken)
		}
		p.acknowledge(int64(a.Offset))
	}
	return write(ctx, ws, fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID)) == nil
}

// acknowledge moves the cursor, unless another connection has moved it further already.
func (p *post) acknowledge(offset int64) {
	for {
		cursor := p.cursor.Load()
		if offset <= cursor || p.cursor.CompareAndSwap(cursor, offset) {
			return
		}
	}
}

func write(ctx context.Context, ws *websocket.Conn, frame string) error {
	return ws.Write(ctx, websocket.MessageText, []byte(frame))
}

// Connections end again and again: every message of the inbox comes, is shown once and in order,
// and acknowledged when the application is done with it.
func TestStormOfTheInbox(t *testing.T) {
	p := &post{t: t}
	served(t, p, func(t *testing.T, w *world) {
		random, bytes := rand.New(rand.NewPCG(1, 0)), rand.New(rand.NewPCG(1, 1))
		w.setWrap(func(c net.Conn) net.Conn {
			return &fragile{Conn: c, left: 300 + bytes.IntN(10_000)}
		})
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 50})
		alice.read.Go(func() {
			for msg, err := range alice.Messages() {
				if err != nil {
					if err != realtime.ErrClosed {
						t.Error(err)
					}
					continue
				}
				if n := p.taken.Add(1); msg.Offset != uint64(n) {
					t.Errorf("got %d, want %d", msg.Offset, n)
				}
			}
		})
		for w.dialled() < 60 {
			p.top.Add(int64(random.IntN(20)))
			time.Sleep(time.Second)
		}
		w.setWrap(nil)
		w.cut()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, p.top.Load(), p.taken.Load())
		require.Equal(t, p.top.Load(), p.cursor.Load())
		t.Logf("%d messages over %d connections", p.top.Load(), w.dialled())
	})
}
