package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/realtime-go/realtime/examples/internal/browser"
)

const root = "../.."

// steps are the steps of the quick start in the README: commands, and files with their contents.
type steps struct {
	commands []string
	files    map[string]string
}

func readSteps(t *testing.T) (s steps) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(readme), "\n## Quick start\n")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	s.files = map[string]string{}
	block := regexp.MustCompile("(?ms)^(?:`([a-z.]+)`:\n\n)?```([a-z]+)\n(.*?)^```$")
	for _, m := range block.FindAllStringSubmatch(section, -1) {
		if m[2] != "sh" {
			require.NotEmpty(t, m[1], "a file without a name: %s", m[3])
			s.files[m[1]] = m[3]
			continue
		}
		for line := range strings.Lines(m[3]) {
			s.commands = append(s.commands, strings.TrimSpace(line))
		}
	}
	return s
}

// TestReadmeFiles tests that the README contains the files of this folder.
func TestReadmeFiles(t *testing.T) {
	s := readSteps(t)
	require.Len(t, s.commands, 4, "%q", s.commands)
	require.Len(t, s.files, 2)
	for name, content := range s.files {
		here, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, string(here), content)
	}
}

// TestQuickStart follows the README in an empty folder, with the module from a module proxy, and
// chats.
func TestQuickStart(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git in PATH: the quick start is not tested")
	}
	chromium := browser.Start(t)
	if l, err := net.Listen("tcp", "localhost:8080"); err != nil {
		t.Skip("port 8080 is taken: the quick start is not tested")
	} else {
		require.NoError(t, l.Close())
	}
	s := readSteps(t)
	dir := t.TempDir()
	run := s.commands[len(s.commands)-1]
	// A cache of its own, because the module has the same version with each commit. What else the
	// quick start needs is in the usual cache, or comes from the network.
	known := "file://" + filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")
	env := append(os.Environ(), "GOPROXY="+fileProxy(t)+","+known+","+goEnv(t, "GOPROXY"),
		"GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOWORK=off",
		"GONOSUMDB=github.com/realtime-go/*")
	shell := func(ctx context.Context, line string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "bash", "-ec", line)
		cmd.Dir, cmd.Env = dir, env
		killGroup(cmd)
		return cmd
	}
	for _, line := range s.commands[:len(s.commands)-1] {
		if name, ok := strings.CutPrefix(line, "mkdir chat && cd "); ok {
			dir = filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(dir, 0o700))
			continue
		}
		out, err := shell(t.Context(), line).CombinedOutput()
		browser.RequireOnline(t, out, err)
		require.NoError(t, err, "%s: %s", line, out)
	}
	for name, content := range s.files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	stop := serve(t, shell, run)

	profile := chromium.Profile(t)
	open := func(name string) *browser.Tab { return profile.Open(t, "http://localhost:8080/?name="+name) }
	alice, bob := open("alice"), open("bob")
	talk := func(text string) {
		for _, tab := range []*browser.Tab{alice, bob} {
			tab.WaitFor("the members", `people.textContent === "alice, bob"`)
		}
		// Messages sent before both clients have reconnected are lost, because nothing keeps them.
		require.Eventually(t, func() bool {
			alice.Type("#text", text+kb.Enter)
			return strings.Contains(bob.Eval(`said.innerText`), "alice: "+text)
		}, chromium.Timeout(), 200*time.Millisecond, text)
	}
	talk("hello")
	stop()
	stop = serve(t, shell, run)
	defer stop()
	talk("still here")
}

// serve runs the server until stop is called.
func serve(t *testing.T, shell func(context.Context, string) *exec.Cmd, line string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := shell(ctx, line)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://localhost:8080/")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "%s", &log)
	return stop
}

func goEnv(t *testing.T, name string) string {
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// fileProxy makes a module proxy of files with the last commit of this module, in the layout of
// https://go.dev/ref/mod#goproxy-protocol.
func fileProxy(t *testing.T) string {
	dir := t.TempDir()
	version := module.Version{Path: "github.com/realtime-go/realtime", Version: "v0.1.0"}
	at := filepath.Join(dir, version.Path, "@v")
	require.NoError(t, os.MkdirAll(at, 0o700))
	put := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(at, name), content, 0o600))
	}
	info, err := json.Marshal(map[string]string{"Version": version.Version, "Time": "2026-01-01T00:00:00Z"})
	require.NoError(t, err)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	var packed bytes.Buffer
	clone := t.TempDir() // modzip does not support work trees
	out, err := exec.CommandContext(t.Context(), "git", "clone", "-q", "-n", "-s", root, clone).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, modzip.CreateFromVCS(&packed, version, clone, "HEAD", ""))
	requireEmbedded(t, packed.Bytes())
	put("list", []byte(version.Version+"\n"))
	put(version.Version+".info", info)
	put(version.Version+".mod", mod)
	put(version.Version+".zip", packed.Bytes())
	return "file://" + dir
}

// requireEmbedded checks that the module contains the embedded files.
func requireEmbedded(t *testing.T, packed []byte) {
	r, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	require.NoError(t, err)
	f, err := r.Open("github.com/realtime-go/realtime@v0.1.0/js/dist/realtime.js")
	require.NoError(t, err)
	defer f.Close()
	content, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NotEmpty(t, content)
}
