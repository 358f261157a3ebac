package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Connections break down anywhere: inside headers, messages and control frames, before and after
// violations and close frames. Nothing of them counts in the memory budget in the end, and nothing
// of them is seen by connections that use the same buffers after them.
func TestBrokenConnectionsLeaveNothing(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		var s *testServer
		o := realtime.Options{
			Limits: realtime.Limits{InboundRate: -1, InboundBytes: -1, ConnsPerUser: -1},
		}
		o.OnMessage = func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			_, err := s.rt.Send(ctx, realtime.ToConn(c.ID()), in.Message)
			return nil, err
		}
		s = newTestServer(t, o, secure)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() { s.breakDown(t, rand.New(rand.NewPCG(1, uint64(i))), 25) })
		}
		for i := range 2 {
			all.Go(func() { s.converse(t, fmt.Sprint("honest", i), 128) })
		}
		all.Wait()
		none := func() bool { return s.rt.Stats().Conns == 0 }
		require.Eventually(t, none, 20*time.Second, time.Millisecond)
		require.Zero(t, s.rt.Stats().MemoryBytes)
	})
}

// breakDown opens n connections, sends parts of a stream over each and ends it somehow.
func (s *testServer) breakDown(t *testing.T, dice *rand.Rand, n int) {
	pieces := []string{
		say("evil"), say(strings.Repeat("e", 9000)), ping("evil ping"), pong("evil pong"),
		begin(`{"content":"evil`), more("e"), last("e"), "\x81\x01x", "\x8f\x80", "\x81\xfe",
		closeFrame(1000, "evil"), closeFrame(1000, "\xff"), frame(fin|opClose, "x"),
		announce(fin|opText, 60_000), announce(fin|opText, 1<<40),
	}
	for range n {
		var stream strings.Builder
		for range 1 + dice.IntN(6) {
			stream.WriteString(pieces[dice.IntN(len(pieces))])
		}
		in := stream.String()[:stream.Len()-dice.IntN(2)]
		early := dice.IntN(len(in))
		if dice.IntN(2) == 0 {
			early = 0
		}
		nc, br := s.rawDial(t, "evil", in[:early])
		for in = in[early:]; in != ""; {
			k := 1 + dice.IntN(len(in))
			if _, err := io.WriteString(nc, in[:k]); err != nil {
				break
			}
			in = in[k:]
			if dice.IntN(2) == 0 {
				time.Sleep(time.Duration(dice.IntN(2000)) * time.Microsecond)
			}
		}
		switch dice.IntN(4) {
		case 0:
			if tcp, ok := nc.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		case 1:
			_ = nc.(interface{ CloseWrite() error }).CloseWrite()
			_, _ = io.Copy(io.Discard, br)
		}
		_ = nc.Close()
	}
}

// converse sends n messages and pings and receives exactly the answers.
func (s *testServer) converse(t *testing.T, user string, n int) {
	nc, br := s.rawDial(t, user, "")
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	_, _ = readFrame(t, br)
	for i := range n {
		text := fmt.Sprint(user, i, strings.Repeat("h", i*37%9000))
		f, answers := say(text), 1
		if i%16 == 0 { // more often is too often
			f, answers = ping(text[:8])+f, 2
		}
		cut := i % len(f)
		_, err := io.WriteString(nc, f[:cut])
		require.NoError(t, err)
		if i%3 == 0 {
			time.Sleep(time.Millisecond)
		}
		_, err = io.WriteString(nc, f[cut:])
		require.NoError(t, err)
		for range answers {
			op, payload, err := nextFrame(br)
			require.NoError(t, err)
			if op == byte(websocket.MessageText) {
				var p plainFrame
				require.NoError(t, json.Unmarshal([]byte(payload), &p))
				require.Equal(t, user+": "+text, shorthand(t, payload))
			} else {
				require.Equal(t, text[:8], payload)
			}
		}
	}
	_ = nc.Close()
}
