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

// inboxServer is a server with an inbox that has one message for each number up to top.
type inboxServer struct {
	t         *testing.T
	top       atomic.Int64
	cursor    atomic.Int64 // acknowledged up to here
	processed atomic.Int64 // processed by the application up to here
}

// ServeHTTP implements http.Handler. Its connections may end at any time.
func (p *inboxServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{realtime.V1}})
	if err != nil {
		return
	}
	defer func() { _ = ws.CloseNow() }()
	gone := make(chan struct{})
	at := p.cursor.Load()
	hello := `{"message_type":"welcome","content":{"max_message_bytes":65536` + cursor(int(at)) + `}}`
	if writeText(r.Context(), ws, hello) != nil {
		return
	}
	go func() {
		defer close(gone)
		for p.serve(r.Context(), ws) {
		}
	}()
	for ; err == nil; time.Sleep(100 * time.Millisecond) {
		for ; err == nil && at < p.top.Load(); at++ {
			err = writeText(r.Context(), ws, fmt.Sprintf(`{"message_type":"chat","sender_id":"bob",`+
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

// serve answers one request. It reports whether there was one.
func (p *inboxServer) serve(ctx context.Context, ws *websocket.Conn) bool {
	_, data, err := ws.Read(ctx)
	if err != nil {
		return false
	}
	var a clientRequest
	if json.Unmarshal(data, &a) != nil {
		return writeText(ctx, ws, "pong") == nil
	}
	if a.Type == "ack" {
		if taken := p.processed.Load(); int64(a.Offset) > taken {
			p.t.Errorf("ack of %d, only %d are processed", a.Offset, taken)
		}
		p.acknowledge(int64(a.Offset))
	}
	return writeText(ctx, ws, fmt.Sprintf(`{"message_type":"reply","id":%d}`, a.ID)) == nil
}

// acknowledge moves the cursor forward, unless another connection has moved it further.
func (p *inboxServer) acknowledge(offset int64) {
	for {
		cursor := p.cursor.Load()
		if offset <= cursor || p.cursor.CompareAndSwap(cursor, offset) {
			return
		}
	}
}

func writeText(ctx context.Context, ws *websocket.Conn, frame string) error {
	return ws.Write(ctx, websocket.MessageText, []byte(frame))
}

// TestInboxStress tests that every message of the inbox is delivered once and in order, and is
// acknowledged after the application has processed it, while connections end all the time.
func TestInboxStress(t *testing.T) {
	p := &inboxServer{t: t}
	withHandler(t, p, func(t *testing.T, w *testEnv) {
		random, bytes := rand.New(rand.NewPCG(1, 0)), rand.New(rand.NewPCG(1, 1))
		w.wrapConns(func(c net.Conn) net.Conn {
			return &breakingConn{Conn: c, remaining: 300 + bytes.IntN(10_000)}
		})
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 50})
		alice.reading.Go(func() {
			for msg, err := range alice.Messages() {
				if err != nil {
					if err != realtime.ErrClosed {
						t.Error(err)
					}
					continue
				}
				if n := p.processed.Add(1); msg.Offset != uint64(n) {
					t.Errorf("got %d, want %d", msg.Offset, n)
				}
			}
		})
		for w.dialCount() < 60 {
			p.top.Add(int64(random.IntN(20)))
			time.Sleep(time.Second)
		}
		w.wrapConns(nil)
		w.cutAll()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, p.top.Load(), p.processed.Load())
		require.Equal(t, p.top.Load(), p.cursor.Load())
		t.Logf("%d messages over %d connections", p.top.Load(), w.dialCount())
	})
}
