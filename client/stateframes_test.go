package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/client"
)

// seenAfter returns what a client acknowledges, and when in milliseconds, after a server has called
// do, which begins when the client is in the lobby.
func seenAfter(t *testing.T, do func(s *script)) (seen []string) {
	t.Helper()
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.replyEmpty(s.receive())
		start, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			do(s)
		}()
		for a := s.receiveAny(); a.Type != "gone"; a = s.receiveAny() {
			if a.Type == "seen" {
				seen = append(seen, fmt.Sprintf("%s at %d", a.raw[len(`{"type":"seen","frames":`):len(a.raw)-1], time.Since(start).Milliseconds()))
			}
		}
		<-done
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{PingInterval: -1})
		alice.join("lobby")
		time.Sleep(10 * time.Second)
		require.NoError(t, alice.Close())
		synctest.Wait()
	})
	return seen
}

// TestSeen tests when the client acknowledges state frames: it does not wait for the application,
// and acknowledges nothing else.
func TestSeen(t *testing.T) {
	value := func(s *script) { s.value("lobby", "a", "1") }
	for name, test := range map[string]struct {
		do   func(s *script)
		want []string
	}{
		"one frame":      {value, []string{"1 at 1000"}},
		"nothing to say": {func(s *script) { s.sendChat("1", "hi") }, nil},
		"four at once": {func(s *script) {
			value(s)
			s.presence(`"ver":1,"show":"count"`)
			s.send(`{"message_type":"latest","room":"lobby","keys":["b"]}`)
			time.Sleep(50 * time.Millisecond)
			s.presence(`"ver":0`)
		}, []string{"4 at 50"}},
		"versions": {func(s *script) {
			for i := range 4 {
				s.version("lobby", i+1)
			}
		}, []string{"4 at 0"}},
		"wrong members": {func(s *script) {
			for _, members := range []string{`"ver":-1`, `"prev":[]`, `"room":7`, `"ver":1e300`} {
				s.send(`{"message_type":"presence",` + members + `}`)
			}
		}, []string{"4 at 0"}},
		"many": {func(s *script) {
			for range 27 {
				value(s)
				synctest.Wait()
				time.Sleep(9 * time.Millisecond)
			}
		}, []string{"4 at 27", "15 at 127", "26 at 227", "27 at 1234"}},
		"large": {func(s *script) {
			s.value("lobby", "a", `"`+strings.Repeat("x", 4000)+`"`)
			time.Sleep(time.Millisecond)
			s.value("lobby", "a", `"`+strings.Repeat("x", 4200)+`"`)
			time.Sleep(time.Millisecond)
			s.value("lobby", "a", `"`+strings.Repeat("x", 8200)+`"`)
			time.Sleep(298 * time.Millisecond)
			value(s)
		}, []string{"2 at 1", "3 at 101", "4 at 1300"}},
		"few": {func(s *script) {
			for range 3 {
				value(s)
				time.Sleep(700 * time.Millisecond)
			}
		}, []string{"2 at 1000", "3 at 2400"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, seenAfter(t, test.do)) })
	}
}

// TestSeenOverConnections tests that each connection counts from its beginning, and that a binary
// value counts.
func TestSeenOverConnections(t *testing.T) {
	var seen []string
	withHandler(t, scripted(t, func(s *script, n int) {
		for range n {
			s.value("lobby", "a", "1")
		}
		s.sendBinary(`{"message_type":"shape","room":"lobby","latest":"b"}`, "bytes")
		if n == 3 {
			s.serveUntilClosed()
			return
		}
		seen = append(seen, s.receiveAny().raw)
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.Equal(t, []string{`{"type":"seen","frames":2}`, `{"type":"seen","frames":3}`}, seen)
	})
}

// sendBinary sends a message with bytes as its content.
func (s *script) sendBinary(header, content string) {
	p := append([]byte{byte(len(header))}, header+content...)
	if err := s.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		s.t.Errorf("server cannot write: %v", err)
	}
}
