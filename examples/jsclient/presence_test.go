package jsclient

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/examples/internal/browser"
)

// TestPresenceInNode runs the tests of presence.mjs: presence, reloads of a page, and latest values.
func TestPresenceInNode(t *testing.T) {
	node := browser.Node(t)
	for _, name := range []string{"presence", "reload", "reloadWithoutKey", "latest"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := realtime.New(&realtime.Options{
				Authenticate: withName, Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
			})
			s := httptest.NewServer(rt)
			t.Cleanup(s.Close)
			t.Cleanup(func() { _ = rt.Close() })
			url := strings.Replace(s.URL, "http", "ws", 1)
			args := append(node[1:], "presence.mjs", url, name)
			out, err := exec.CommandContext(t.Context(), node[0], args...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// withName shows the name of each user in capital letters.
func withName(r *http.Request) (realtime.Identity, error) {
	id, err := realtime.InsecureQueryUser(r)
	if err == nil {
		id.Info, err = json.Marshal(map[string]string{"name": strings.ToUpper(id.UserID)})
	}
	return id, err
}
