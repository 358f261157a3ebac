package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// minNode is the oldest version of Node that the packages support.
const minNode = 20

// Install installs npm packages into a new folder and returns it. It skips the test if there is no
// npm, or if Node is too old.
func Install(t *testing.T, packages ...string) (dir string) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skipf("no npm in PATH: what needs %s is not tested", packages[0])
	}
	version, err := exec.CommandContext(t.Context(), "node", "-p", "process.versions.node").Output()
	major, _, _ := strings.Cut(string(version), ".")
	if n, _ := strconv.Atoi(major); err != nil || n < minNode {
		t.Skipf("no Node of version %d: what needs %s is not tested", minNode, packages[0])
	}
	dir = t.TempDir()
	manifest := []byte(`{"type":"module","private":true}`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o600))
	args := append([]string{"install", "--no-audit", "--no-fund", "--loglevel=error"}, packages...)
	install := exec.CommandContext(t.Context(), npm, args...)
	install.Dir = dir
	out, err := install.CombinedOutput()
	RequireOnline(t, out, err)
	require.NoError(t, err, "%s", out)
	return dir
}

var offline = regexp.MustCompile(
	`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|no such host|connection refused|network is unreachable`)

// RequireOnline skips the test if the output of a failed command says that the network is
// unreachable.
func RequireOnline(t *testing.T, out []byte, err error) {
	if err != nil && offline.Match(out) {
		t.Skipf("no network: this is not tested: %s", offline.Find(out))
	}
}

// Node returns the command of a Node with a WebSocket, or skips the test if there is none.
func Node(t *testing.T) (command []string) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node in PATH: its WebSocket is not tested")
	}
	for _, flag := range []string{"--no-warnings", "--experimental-websocket"} { // which 20 needs
		if exec.CommandContext(t.Context(), node, flag, "-e", "WebSocket").Run() == nil {
			return []string{node, flag}
		}
	}
	t.Skip("this Node has no WebSocket: it is not tested")
	return nil
}
