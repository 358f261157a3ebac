package recipes

import (
	"context"

	"github.com/realtime-go/realtime"
)

// withTyping lets users chat in the rooms of which they are members, and shows them who is there and
// what each client says about itself.
func withTyping(s sessions, member func(user, room string) bool) *realtime.Manager {
	return realtime.New(&realtime.Options{
		Authenticate: s.authenticate,
		Show:         realtime.ShowMembers,
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			room := a.Room
			if a.Kind == realtime.ActionSend {
				room = a.Target.Room()
			}
			if !member(c.UserID(), room) {
				return realtime.ErrForbidden // also for actions without a room
			}
			return nil // also history, and messages of each kind: ephemeral ones, latest values
		},
	})
}
