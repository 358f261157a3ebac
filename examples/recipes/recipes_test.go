package recipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/internal/long"
)

// readFile returns a file of this folder.
func readFile(t *testing.T, name string) string {
	p, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(p)
}

// serve serves a Manager, its client, and a page with a script. A visit to the page logs alice in.
func serve(t *testing.T, mux *http.ServeMux, rt *realtime.Manager, script string) *httptest.Server {
	mux.Handle("/ws", rt)
	mux.Handle("/realtime.js", rt.ClientJS())
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "abc", HttpOnly: true})
		_, _ = fmt.Fprintf(w, `<!doctype html><title>recipe</title><script type="module">
			import { connect } from "/realtime.js"
			%s
			window.client = client
		</script>`, script)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { _ = rt.Close() })
	return srv
}

func requireAlice(t *testing.T, p *browser.Tab) {
	t.Helper()
	p.WaitFor("the connection", `window.client?.status.state === "open" && client.userId === "alice"`)
}

func requireRefused(t *testing.T, url string, header http.Header) {
	t.Helper()
	_, err := client.Dial(t.Context(), url, &client.DialOptions{Header: header})
	refused, ok := errors.AsType[*client.DialError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, http.StatusUnauthorized, refused.Status)
}

func TestAuthentication(t *testing.T) {
	chromium := browser.Start(t)
	logins := sessions{"abc": "alice"}

	t.Run("cookie", func(t *testing.T) {
		srv := serve(t, http.NewServeMux(), withCookie(logins), readFile(t, "cookie.js"))
		requireAlice(t, chromium.Profile(t).Open(t, srv.URL))
		requireRefused(t, srv.URL+"/ws", nil)
		requireRefused(t, srv.URL+"/ws", http.Header{"Cookie": {"session=wrong"}})
	})

	t.Run("bearer token", func(t *testing.T) {
		var issued, checked atomic.Int64
		check := func(token string) (string, time.Time, error) {
			if !strings.HasPrefix(token, "token-") {
				return "", time.Time{}, errors.New("not one of ours")
			}
			checked.Add(1)
			return "alice", time.Now().Add(time.Second), nil
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, "token-%d", issued.Add(1))
		})
		srv := serve(t, mux, withBearer(check), readFile(t, "bearer.js"))
		p := chromium.Profile(t).Open(t, srv.URL)
		requireAlice(t, p)
		id := p.Eval(`client.connectionId`)
		require.Eventually(t, func() bool { return checked.Load() > 2 }, chromium.Timeout(), 10*time.Millisecond,
			"the client brings a new token when one expires")
		require.Equal(t, id, p.Eval(`client.connectionId`), "over the same connection")
		requireRefused(t, srv.URL+"/ws", nil)
	})

	t.Run("ticket", func(t *testing.T) {
		mux := http.NewServeMux()
		srv := serve(t, mux, withTicket(logins, mux), readFile(t, "ticket.js"))
		requireAlice(t, chromium.Profile(t).Open(t, srv.URL))
		requireRefused(t, srv.URL+"/ws?ticket=guessed", nil)
		resp, err := http.Post(srv.URL+"/ticket", "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	})
}

// servePage is serve for a page, which alice opens.
func servePage(t *testing.T, rt *realtime.Manager, page string) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "abc", HttpOnly: true})
		_, _ = io.WriteString(w, readFile(t, page))
	})
	return serve(t, mux, rt, "const client = null")
}

// memberOf returns a function that admits everybody to one room, and carol to none.
func memberOf(room string) func(user, name string) bool {
	return func(user, name string) bool { return name == room && user != "carol" }
}

// joinAs connects the user of a session and joins a room. changed has an element after each change
// of its presence.
func joinAs(t *testing.T, srv *httptest.Server, session, room string) (c *client.Client, changed chan bool) {
	changed = make(chan bool, 1000)
	c, err := client.Dial(t.Context(), srv.URL+"/ws", &client.DialOptions{
		Header:     http.Header{"Cookie": {"session=" + session}},
		OnPresence: func(string, client.Presence, client.PresenceChange) { changed <- true },
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.JoinWith(t.Context(), room, client.JoinOptions{Presence: true}))
	return c, changed
}

// awaitState waits until a user has a state.
func awaitState(t *testing.T, c *client.Client, changed chan bool, room, user, state string) {
	t.Helper()
	for {
		now, _ := c.Presence(room)
		for _, m := range now.Members {
			if m.User == user && string(m.State) == state {
				return
			}
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			return
		}
	}
}

// requireNotMember requires that a room admits no stranger, in no way.
func requireNotMember(t *testing.T, srv *httptest.Server, room string) {
	t.Helper()
	c, err := client.Dial(t.Context(), srv.URL+"/ws", &client.DialOptions{
		Header: http.Header{"Cookie": {"session=ghi"}},
	})
	require.NoError(t, err)
	defer c.Close()
	require.Error(t, c.Join(t.Context(), room))
	_, err = c.FetchPresence(t.Context(), room)
	require.Error(t, err)
	require.Error(t, c.Send(t.Context(), realtime.ToRoom(room), realtime.Message{}))
	require.Error(t, c.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
}

func TestTyping(t *testing.T) {
	chromium := browser.Start(t)
	logins := sessions{"abc": "alice", "def": "bob", "ghi": "carol"}
	srv := servePage(t, withTyping(logins, memberOf("lobby")), "typing.html")
	alice := chromium.Profile(t).Open(t, srv.URL+"/page")
	bob, changed := joinAs(t, srv, "def", "lobby")
	awaitState(t, bob, changed, "lobby", "alice", `{"typing":false}`)
	alice.Type("#text", "hel")
	awaitState(t, bob, changed, "lobby", "alice", `{"typing":true}`)
	require.NoError(t, bob.SetState("lobby", map[string]bool{"typing": true}))
	alice.WaitFor("bob types", `document.querySelector("#typing").textContent === "bob … typing"`)
	alice.Type("#text", "lo"+kb.Enter)
	awaitState(t, bob, changed, "lobby", "alice", `{"typing":false}`)
	for m, err := range bob.Messages() {
		require.NoError(t, err)
		require.Equal(t, `"hello"`, string(m.Content))
		break
	}
	require.NoError(t, bob.Leave(t.Context(), "lobby"))
	alice.WaitFor("nobody types", `document.querySelector("#typing").textContent === ""`)
	requireNotMember(t, srv, "lobby")
}

func TestCursors(t *testing.T) {
	chromium := browser.Start(t)
	logins := sessions{"abc": "alice", "def": "bob", "ghi": "carol"}
	srv := servePage(t, withCursors(logins, memberOf("board")), "cursors.html")
	alice := chromium.Profile(t).Open(t, srv.URL+"/page")
	bob, changed := joinAs(t, srv, "def", "board")
	require.NoError(t, bob.SetState("board", map[string][]int{"at": {30, 40}}))
	alice.WaitFor("the cursor of bob", `document.querySelector(".cursor")?.textContent === "bob" &&
		document.querySelector(".cursor").style.translate === "30px 40px"`)
	require.NotEqual(t, "", alice.Eval(`document.querySelector(".cursor").style.background`))
	alice.Run(`dispatchEvent(new PointerEvent("pointermove", { clientX: 5, clientY: 6 }))`)
	awaitState(t, bob, changed, "board", "alice", `{"at":[5,6]}`)
	alice.Run(`document.documentElement.dispatchEvent(new PointerEvent("pointerleave"))`)
	awaitState(t, bob, changed, "board", "alice", `{"at":null}`)
	require.NoError(t, bob.SetState("board", map[string]any{"at": nil}))
	alice.WaitFor("no cursor", `document.querySelector(".cursor").hidden`)
	require.NoError(t, bob.Leave(t.Context(), "board"))
	alice.WaitFor("its end", `!document.querySelector(".cursor")`)
	requireNotMember(t, srv, "board")
	requireShapes(t, srv)
}

// requireShapes requires that members, and only they, move shapes on the board, and send nothing else.
func requireShapes(t *testing.T, srv *httptest.Server) {
	t.Helper()
	bob, _ := joinAs(t, srv, "def", "board")
	board := realtime.ToRoom("board")
	require.Error(t, bob.Send(t.Context(), board, realtime.Message{Type: "chat"}))
	require.Error(t, bob.Send(t.Context(), board, realtime.Message{Type: "shape"}), "it is no value")
	require.NoError(t, bob.Send(t.Context(), board, realtime.Message{Type: "cheer"}))
	shape := realtime.Message{Type: "shape", Latest: "shape/7", Content: []byte(`{"x":1}`)}
	require.NoError(t, bob.Send(t.Context(), board, shape))
	var got []string
	for m, err := range bob.Messages() {
		require.NoError(t, err)
		if got = append(got, m.Type+m.Latest); len(got) == 2 {
			break
		}
	}
	require.ElementsMatch(t, []string{"cheer", "shapeshape/7"}, got)
}

// background runs a command until the test ends.
func background(t *testing.T, dir, name string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.WaitDelay = time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func requireAnswers(t *testing.T, chromium *browser.Browser, url string) {
	require.Eventually(t, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close() == nil
	}, chromium.Timeout(), 50*time.Millisecond, url)
}

func TestBehindNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx = "/usr/sbin/nginx"; exec.Command(nginx, "-v").Run() != nil { // the path on Debian
			t.Skip("no nginx: its recipe is not tested")
		}
	}
	chromium := browser.Start(t)
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser,
		TrustProxies: []string{"127.0.0.1"},
	})
	srv := serve(t, http.NewServeMux(), rt, `const client = connect("/ws?user_id=alice")`)
	backend := strings.TrimPrefix(srv.URL, "http://")
	addr, dir := freeAddr(t), t.TempDir()
	location := strings.ReplaceAll(readFile(t, "nginx.conf"), "127.0.0.1:8080", backend)
	require.Contains(t, location, backend)
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
		daemon off; master_process off; pid %s/pid; error_log stderr;
		events {}
		http { access_log off; %s
			server { listen %s; %s location / { proxy_pass http://%s; } } }`,
		dir, temp.String(), addr, location, backend), 0o600))
	background(t, dir, nginx, "-p", dir, "-c", config)
	requireAnswers(t, chromium, "http://"+addr+"/")

	requireAlice(t, chromium.Profile(t).Open(t, "http://"+addr))
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := client.Dial(t.Context(), "ws://"+addr+"/ws?user_id=bob", &client.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: from.DialContext}},
		Header:     http.Header{"X-Forwarded-For": {"198.51.100.7"}}, // nginx adds to it
	})
	require.NoError(t, err)
	defer c.Close()
	for conn := range rt.User("bob").LocalConns() {
		require.Equal(t, "127.0.0.2", conn.Info().RemoteAddr, "the address of nginx's client")
	}
}

// strictPage is a page with React in strict mode, which mounts components twice.
const strictPage = `
	import { connect } from "@realtime-go/client"
	import { createElement, StrictMode, useEffect, useState } from "react"
	import { createRoot } from "react-dom/client"
	%s
	function App() {
		const room = useRoom("lobby")
		useEffect(() => room?.on("n", (n) => said.push(n)), [room])
		window.room = room
	}
	window.said = []
	window.client = connect("/ws")
	createRoot(document.body).render(createElement(StrictMode, null, createElement(App)))
`

// TestBehindVite tests a page of Vite's development server that imports the client from npm.
func TestBehindVite(t *testing.T) {
	long.Only(t, "it installs Vite and React")
	chromium := browser.Start(t)
	rt := realtime.New(&realtime.Options{
		Authenticate: func(*http.Request) (realtime.Identity, error) { return realtime.Identity{UserID: "alice"}, nil },
		Authorize:    realtime.InsecureAllowAll,
	})
	srv := serve(t, http.NewServeMux(), rt, "")
	local, err := filepath.Abs("../../js")
	require.NoError(t, err)
	dir := browser.Install(t, "vite@8.3.8", "react@19.3.1", "react-dom@19.3.1", local)
	put := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	put("vite.config.js", strings.ReplaceAll(readFile(t, "vite.config.js"), "http://localhost:8080", srv.URL))
	put("index.html", `<!doctype html><title>vite</title><body><script type="module" src="/main.js"></script>`)
	put("main.js", fmt.Sprintf(strictPage, readFile(t, "react.js")))
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	background(t, dir, "node", "node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", port, "--strictPort")
	requireAnswers(t, chromium, "http://"+addr+"/")
	p := chromium.Profile(t).Open(t, "http://"+addr)
	requireAlice(t, p)
	p.WaitFor("the room", `window.room?.joined`)
	p.Run(`room.send("n", 1)`)
	p.WaitFor("the message once", `said.join() === "1"`)
	require.EqualValues(t, 1, rt.Stats().PeakConns, "number of connections")
}
