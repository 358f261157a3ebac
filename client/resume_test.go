package client_test

import (
	"fmt"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// A session is resumed, once, unless the server has said goodbye.
func TestResume(t *testing.T) {
	sessions := func(n int) string { return fmt.Sprintf(`,"session":"s%d"`, n) }
	for end, resumes := range map[int]bool{1006: true, 1012: true, 4300: true, 1001: false} {
		t.Run(fmt.Sprint(end), func(t *testing.T) {
			served(t, greeted(t, sessions, func(s *stage, n int) {
				if n > 1 && resumes {
					resume := s.expects(fmt.Sprintf(`{"type":"resume","session":"s%d"}`, n-1))
					if n == 2 {
						s.answers(resume, `{"rooms":["lobby"]}`)
					} else {
						s.refuses(resume, "session")
					}
				}
				s.replies(s.expects(joinLobby))
				if n == 3 {
					s.lasts()
				}
				if end != 1006 {
					_ = s.ws.Close(websocket.StatusCode(end), "")
				}
			}), func(t *testing.T, w *world) {
				alice := w.dial("alice")
				alice.join("lobby")
				alice.back()
				alice.back()
				_, err := alice.Ping(t.Context())
				require.NoError(t, err)
			})
		})
	}
}
