package interop

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/examples/internal/browser"
)

// expectedOutput is the output of a client that receives a welcome, a pong, its own chat message
// and the close code.
var expectedOutput = regexp.MustCompile(`^\{"message_type":"welcome",.*\}
pong
\{"message_type":"chat","sender_id":"alice","content":\{"type":"chat_message","sender_id":"alice","content":"hi",.*\}
1000
$`)

func requireConversation(t *testing.T, dir string, command ...string) {
	t.Helper()
	for name, o := range map[string]realtime.Options{
		"plain":      {},
		"compressed": {CompressFrom: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o.Authenticate, o.Authorize = realtime.InsecureQueryUser, realtime.InsecureAllowAll
			rt := realtime.New(&o)
			defer rt.Close()
			srv := httptest.NewServer(rt)
			defer srv.Close()
			url := "ws" + strings.TrimPrefix(srv.URL, "http") + "?user_id=alice"
			cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], url)...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Regexp(t, expectedOutput, string(out))
		})
	}
}

func findCommand(t *testing.T, name, what string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s in PATH: %s is not tested", name, what)
	}
	return path
}

func TestNode(t *testing.T) {
	requireConversation(t, ".", append(browser.Node(t), "native.mjs")...)
}

func TestWS(t *testing.T) {
	node := findCommand(t, "node", "ws")
	dir := browser.Install(t, "ws@8.23.0")
	source, err := os.ReadFile("ws.mjs")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ws.mjs"), source, 0o600))
	requireConversation(t, dir, node, "ws.mjs")
}

func TestPython(t *testing.T) {
	// Debian's package belongs to Debian's Python, which may not be the first one in PATH.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import websockets").Run() == nil {
			requireConversation(t, ".", python, "client.py")
			return
		}
	}
	t.Skip("no Python with the package websockets: it is not tested")
}
