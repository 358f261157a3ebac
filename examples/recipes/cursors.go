package recipes

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"net/http"

	"github.com/realtime-go/realtime"
)

// colors are those of the cursors.
var colors = []string{"#b3261e", "#0b5cad", "#176f37", "#875300", "#6b3fa0"}

// withCursors shows the members of a board to each other, with a name and a color that no client
// can choose.
func withCursors(s sessions, member func(user, room string) bool) *realtime.Manager {
	return realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			id, err := s.authenticate(r)
			if err != nil {
				return id, err
			}
			hash := fnv.New32()
			_, _ = hash.Write([]byte(id.UserID))
			color := colors[hash.Sum32()%uint32(len(colors))]
			id.Info, err = json.Marshal(map[string]string{"name": id.UserID, "color": color})
			return id, err
		},
		Show: realtime.ShowMembers,
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			switch a.Kind {
			case realtime.ActionJoin, realtime.ActionLeave, realtime.ActionMembers, realtime.ActionState:
				if member(c.UserID(), a.Room) {
					return nil
				}
			case realtime.ActionSend:
				known := a.Type == "shape" && a.Latest != "" || a.Type == "cheer" && a.Latest == ""
				if known && member(c.UserID(), a.Target.Room()) {
					return nil
				}
			}
			return realtime.ErrForbidden
		},
	})
}
