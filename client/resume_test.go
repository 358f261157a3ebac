package client_test

import (
	"fmt"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestResume tests that a client resumes its session after a lost connection, unless the server has
// announced that it goes away.
func TestResume(t *testing.T) {
	sessions := func(n int) string { return fmt.Sprintf(`,"session":"s%d"`, n) }
	for end, resumes := range map[int]bool{1006: true, 1012: true, 4300: true, 1001: false} {
		t.Run(fmt.Sprint(end), func(t *testing.T) {
			withHandler(t, scriptedWith(t, sessions, func(s *script, n int) {
				if n > 1 && resumes {
					resume := s.expect(fmt.Sprintf(`{"type":"resume","session":"s%d"}`, n-1))
					if n == 2 {
						s.reply(resume, `{"rooms":["lobby"]}`)
					} else {
						s.replyError(resume, "session")
					}
				}
				s.replyEmpty(s.expect(joinLobby))
				if n == 3 {
					s.serveUntilClosed()
				}
				if end != 1006 {
					_ = s.ws.Close(websocket.StatusCode(end), "")
				}
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				alice.join("lobby")
				alice.awaitReconnect()
				alice.awaitReconnect()
				_, err := alice.Ping(t.Context())
				require.NoError(t, err)
			})
		})
	}
}
