package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come.
const patience = 15 * time.Second

// TestPage drives the page in a browser: first against the command, then against
// servers that do what ours does not do on demand.
func TestPage(t *testing.T) {
	browser := startBrowser(t)
	command := build(t)
	against := func(name string, test func(*testing.T, *site)) {
		t.Run(name, func(t *testing.T) {
			s := &site{t: t, profile: newProfile(t, browser), command: command, addr: freeAddr(t)}
			s.start()
			test(t, s)
		})
	}
	against("room", testRoom)
	against("private", testPrivate)
	against("two tabs", testTwoTabs)
	against("crash", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGKILL) })
	against("shutdown", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGTERM) })
	against("small screen and keyboard", testKeyboard)
	against("names", testNames)
	t.Run("close codes", func(t *testing.T) { testCloseCodes(t, newProfile(t, browser)) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, newProfile(t, browser)) })
	t.Run("silence", func(t *testing.T) { testSilence(t, newProfile(t, browser)) })
	t.Run("wake", func(t *testing.T) { testWake(t, newProfile(t, browser)) })
	t.Run("odd frames", func(t *testing.T) { testOddFrames(t, newProfile(t, browser)) })
}

func testRoom(t *testing.T, s *site) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	alice.people("alice", "bob")
	bob.people("alice", "bob")
	alice.say("hello")
	bob.reads("alice", "hello")
	alice.reads("alice", "hello")
	bob.say("<b>hi</b>")
	alice.reads("bob", "<b>hi</b>")

	// Who goes elsewhere is seen to go, and no longer reads the room.
	bob.types("#next-room", "attic"+kb.Enter)
	bob.inRoom("attic")
	alice.notes("bob left lobby")
	alice.people("alice")
	alice.say("alone")
	alice.reads("alice", "alone")
	alice.click("[name=to][value=all]")
	alice.say("everybody")
	bob.reads("alice", "everybody")
	bob.hasNot("alone")

	// Who has left is in no room, so what he writes to it stays where it is.
	bob.click("#leave")
	bob.notes("You have left attic")
	bob.inRoom("")
	bob.say("to nobody")
	require.Equal(t, "to nobody", bob.value("#message"))
	alice.types("#next-room", "attic"+kb.Enter)
	alice.inRoom("attic")
	alice.people("alice")
}

func testPrivate(t *testing.T, s *site) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	carol := s.enter("carol", "lobby")
	alice.people("alice", "bob", "carol")
	alice.click("#people [data-user=bob]")
	alice.say("between us")
	bob.reads("alice", "between us")
	alice.reads("alice", "between us") // its own copy
	alice.waits("the copy says to whom", `document.querySelector(".own .private")
		?.textContent.includes("to bob only")`)

	// What alice says next comes next, so then carol would have had it.
	alice.click("[name=to][value=room]")
	alice.say("to all of you")
	carol.reads("alice", "to all of you")
	carol.hasNot("between us")

	// A word of the protocol is no person: it would go to everybody.
	alice.click("[name=to][value=user]")
	alice.types("#person", strings.Repeat(kb.Backspace, len("bob"))+"all")
	alice.waits("the reason", `document.querySelector("#send-hint").textContent.includes("reserved")`)
	alice.say("oops")
	alice.hasNot("oops")
	require.Equal(t, "oops", alice.value("#message"))
}

func testTwoTabs(t *testing.T, s *site) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	second := s.enter("alice", "lobby")
	for _, p := range []*tab{alice, bob, second} {
		p.people("alice", "bob")
	}
	second.close()
	s.connections(2)
	alice.say("still here")
	bob.reads("alice", "still here")
	bob.people("alice", "bob")
	bob.hasNot("alice left lobby")
	bob.hasNot("alice went offline")

	alice.close() // her last one is seen
	bob.notes("alice left lobby")
	bob.notes("alice went offline")
	bob.people("bob")
}

func testRestart(_ *testing.T, s *site, how syscall.Signal) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	s.stop(how)
	for _, p := range []*tab{alice, bob} {
		p.state("waiting")
		p.waits("the word", `document.querySelector("#status").innerText.includes("Offline")`)
		p.waits("no room", `document.querySelector("#room").dataset.room === ""`)
	}
	// What is written meanwhile is kept, and not sent to nobody.
	alice.say("are you back?")
	s.start()
	for _, p := range []*tab{alice, bob} {
		p.state("online")
		p.inRoom("lobby")
		p.people("alice", "bob")
		p.notes("What was said meanwhile is not shown here.")
	}
	alice.click("#send")
	bob.reads("alice", "are you back?")
	bob.say("yes")
	alice.reads("bob", "yes")
}

func testKeyboard(t *testing.T, s *site) {
	bob := s.enter("bob", "lobby")
	p := s.open("/?room=lobby")
	p.do(chromedp.EmulateViewport(320, 640))
	p.fits()
	p.keys("dora" + kb.Tab + kb.Enter) // past the room, which is filled in already
	p.inRoom("lobby")
	p.keys("typed" + kb.Enter)
	bob.reads("dora", "typed")
	bob.say(strings.Repeat("unbroken", 50))
	p.reads("bob", strings.Repeat("unbroken", 50))
	p.fits()

	p.tabTo(`document.activeElement.dataset.user === "bob"`)
	p.keys(kb.Enter)
	require.Equal(t, "bob", p.value("#person"))
	p.keys("only you" + kb.Enter)
	bob.reads("dora", "only you")
	p.fits()
}

func testNames(t *testing.T, s *site) {
	p := s.open("/?name=all")
	p.waits("the reason", `document.querySelector("#name-error").innerText.includes("reserved")`)
	p.do(chromedp.WaitVisible(chromedp.CSS("#name-error")))
	require.Equal(t, "true", p.eval(`document.querySelector("#name").ariaInvalid`))
	p.keys(strings.Repeat(kb.Backspace, 3) + "eve" + kb.Enter)
	p.inRoom("general")
	p.people("eve")

	again := s.open("/")
	require.Equal(t, "eve", again.value("#name"), "the name is remembered")
	anonymous := s.open("/?name=&room=general")
	anonymous.inRoom("general")
	anonymous.people("eve")
	anonymous.say("who am I?")
	p.reads("", "who am I?")

	p.click("#quit")
	p.do(chromedp.WaitVisible(chromedp.CSS("#entrance")))
	anonymous.notes("eve went offline")
}

// testCloseCodes closes the socket of a page that is online.
func testCloseCodes(t *testing.T, profile context.Context) {
	for code, state := range map[websocket.StatusCode]string{
		1000: "stopped", 1008: "stopped", 4403: "stopped", 4429: "stopped",
		1011: "waiting", 1012: "waiting", 4300: "waiting", 4308: "waiting",
	} {
		t.Run(fmt.Sprint(int(code)), func(t *testing.T) {
			f := &fake{opened: func(n int64, c *websocket.Conn) {
				if n == 1 {
					_ = c.Close(code, "because")
				}
			}}
			p := f.open(t, profile, "FIRST_WAIT = 500", "FIRST_WAIT = 50")
			if state == "waiting" {
				f.reaches(t, 2)
				p.state("online")
				return
			}
			p.state("stopped")
			p.waits("the reason", fmt.Sprintf(`["code %d", "because"].every(
				(s) => document.querySelector("#why").innerText.includes(s))`, code))
			p.click("#retry")
			p.state("online")
			require.EqualValues(t, 2, f.requests.Load(), "it came back by itself")
		})
	}
}

// testRefusals refuses the handshake.
func testRefusals(t *testing.T, profile context.Context) {
	for _, tt := range []struct {
		status      int
		body        string
		state, said string
	}{
		{400, `{"error":"invalid user id"}`, "stopped", "invalid user id (400)"},
		{403, ``, "stopped", "no reason given (403)"},
		{426, `{"error":"use a WebSocket"}`, "waiting", "opens no WebSocket"},
		{429, `{"error":"too many connections"}`, "waiting", "too many connections (429)"},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			f := &fake{refused: func(w http.ResponseWriter) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}}
			p := f.open(t, profile)
			p.state(tt.state)
			p.waits("the reason", fmt.Sprintf(
				`document.querySelector("#why").innerText.includes(%q)`, tt.said))
		})
	}
}

// testSilence leaves the pings of the first socket unanswered.
func testSilence(t *testing.T, profile context.Context) {
	var answered atomic.Int64
	f := &fake{opened: func(n int64, c *websocket.Conn) {
		for {
			_, p, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if n > 1 && string(p) == "ping" {
				_ = c.Write(context.Background(), websocket.MessageText, []byte("pong"))
				answered.Add(1)
			}
		}
	}}
	f.open(t, profile,
		"PING_EVERY = 25_000", "PING_EVERY = 100", "DEAD_AFTER = 60_000", "DEAD_AFTER = 1_000",
		"LOOK_EVERY = 1_000", "LOOK_EVERY = 20", "FIRST_WAIT = 500", "FIRST_WAIT = 50")
	f.reaches(t, 2)
	// This many take longer than the silence that would end it.
	require.Eventually(t, func() bool { return answered.Load() > 15 }, patience, 20*time.Millisecond)
	require.EqualValues(t, 2, f.requests.Load(), "it left a server that answers")
}

// testWake waits as long as the page ever does, and then gives it reasons to hope.
func testWake(t *testing.T, profile context.Context) {
	f := &fake{opened: func(_ int64, c *websocket.Conn) { _ = c.Close(1012, "restart") }}
	p := f.open(t, profile, "FIRST_WAIT = 500", "FIRST_WAIT = 600_000",
		"Math.random() * longest", "longest")
	p.state("waiting")
	p.waits("the countdown", `/^ in (29|30) s$/.test(document.querySelector("#countdown").textContent)`)
	p.eval(`String(dispatchEvent(new Event("online")))`)
	f.reaches(t, 2)
	p.state("waiting")
	p.eval(`String(document.dispatchEvent(new Event("visibilitychange")))`)
	f.reaches(t, 3)
}

// testOddFrames sends what a server may learn to send, and more than the page keeps.
func testOddFrames(t *testing.T, profile context.Context) {
	f := &fake{opened: func(_ int64, c *websocket.Conn) {
		chat := func(text string) string {
			return fmt.Sprintf(`{"message_type":"chat","sender_id":"x","timestamp":1,`+
				`"content":{"type":"chat_message","content":%q}}`, text)
		}
		frames := []string{`not JSON`, `null`, `7`, `{}`, `{"message_type":"toString","content":1}`}
		for i := range 600 {
			frames = append(frames, chat(fmt.Sprint(i)))
		}
		for _, text := range append(frames, chat(`<img src="x" onerror="alert(1)">`)) {
			_ = c.Write(context.Background(), websocket.MessageText, []byte(text))
		}
	}}
	p := f.open(t, profile)
	p.reads("x", `<img src="x" onerror="alert(1)">`)
	p.waits("an end", `document.querySelectorAll("#timeline > *").length === 500`)
	p.waits("the newest in sight", `(({scrollTop, clientHeight, scrollHeight}) =>
		scrollTop + clientHeight > scrollHeight - 48)(document.querySelector("#timeline"))`)
}

// ------------------------------------------------------------ the command

// site is the command, running.
type site struct {
	t       *testing.T
	profile context.Context
	command string
	addr    string
	running *exec.Cmd
}

// build compiles the command.
func build(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "chat")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// start starts the command and waits until it answers.
func (s *site) start() {
	s.running = exec.Command(s.command, "-addr", s.addr)
	s.running.Stderr = s.t.Output()
	require.NoError(s.t, s.running.Start())
	s.t.Cleanup(func() { s.stop(syscall.SIGKILL) })
	require.Eventually(s.t, func() bool {
		resp, err := http.Get("http://" + s.addr)
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond, "the command does not answer")
}

// stop ends the command and waits until it has ended.
func (s *site) stop(how syscall.Signal) {
	if s.running == nil {
		return
	}
	_ = s.running.Process.Signal(how)
	_ = s.running.Wait()
	s.running = nil
}

// connections waits until the server has so many.
func (s *site) connections(n int) {
	require.Eventually(s.t, func() bool {
		resp, err := http.Get("http://" + s.addr + "/stats")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var stats struct {
			Active int `json:"active_connections"`
		}
		return json.NewDecoder(resp.Body).Decode(&stats) == nil && stats.Active == n
	}, patience, 20*time.Millisecond, "connections: want %d", n)
}

func (s *site) open(path string) *tab {
	return openTab(s.t, s.profile, "http://"+s.addr+path)
}

// enter opens the page as this user in this room, and waits until he is there.
func (s *site) enter(user, room string) *tab {
	p := s.open("/?" + url.Values{"name": {user}, "room": {room}}.Encode())
	p.state("online")
	p.inRoom(room)
	return p
}

// ------------------------------------------------------------ a server that pretends

// fake serves the page, and a WebSocket endpoint that refuses, or welcomes and then
// does with the n-th socket what the test wants. It keeps the socket when that is
// done.
type fake struct {
	refused  func(http.ResponseWriter)
	opened   func(n int64, c *websocket.Conn)
	requests atomic.Int64
}

// open opens the page in a tab, after some edits: old, new, old, new, …
func (f *fake) open(t *testing.T, profile context.Context, edits ...string) *tab {
	edited := page
	for i := 0; i < len(edits); i += 2 {
		require.Contains(t, string(edited), edits[i])
		edited = bytes.ReplaceAll(edited, []byte(edits[i]), []byte(edits[i+1]))
	}
	mux := http.NewServeMux()
	answer := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	}
	mux.HandleFunc("/{$}", answer(edited))
	mux.HandleFunc("/connections/", answer([]byte(`{}`)))
	mux.HandleFunc("/rooms/", answer([]byte(`{"users":[]}`)))
	mux.HandleFunc("/ws", f.serve)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return openTab(t, profile, srv.URL+"/?name=alice")
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	n := f.requests.Add(1)
	if f.refused != nil {
		f.refused(w)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	welcome := `{"message_type":"welcome","content":{"connection_id":"conn_x"},"timestamp":1}`
	_ = c.Write(r.Context(), websocket.MessageText, []byte(welcome))
	f.opened(n, c)
	_, _, _ = c.Read(context.Background()) // until the page goes
}

// reaches waits for the n-th request.
func (f *fake) reaches(t *testing.T, n int64) {
	require.Eventually(t, func() bool { return f.requests.Load() >= n }, patience, 10*time.Millisecond,
		"sockets: want %d", n)
}

// ------------------------------------------------------------ the browser

// startBrowser starts a browser that ends with the test, or skips the test.
func startBrowser(t *testing.T) context.Context {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no chromium, chromium-browser or google-chrome in PATH: the page is not tested")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // the sandbox does not run as root
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(browser))
	t.Cleanup(func() { _ = chromedp.Cancel(browser) }) // so that it is gone before its files
	return browser
}

// newProfile returns a context for tabs that share storage with each other only.
func newProfile(t *testing.T, browser context.Context) context.Context {
	profile, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(profile))
	return profile
}

// tab is one page in the browser. Its methods wait for what they name and fail the
// test if it does not come.
type tab struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
}

// openTab opens a tab. An exception in the page that nobody catches fails the test.
func openTab(t *testing.T, profile context.Context, address string) *tab {
	ctx, cancel := chromedp.NewContext(profile)
	p := &tab{t: t, ctx: ctx, cancel: cancel}
	require.NoError(t, chromedp.Do(ctx))
	var uncaught []string
	said, read := chromedp.Console(ctx), make(chan struct{})
	go func() {
		defer close(read)
		for m, err := range said {
			if err == nil && m.IsException() {
				uncaught = append(uncaught, m.String())
			}
		}
	}()
	t.Cleanup(func() {
		p.close()
		<-read
		require.Empty(t, uncaught, "exceptions in the page")
	})
	p.do(chromedp.Navigate(address))
	return p
}

func (p *tab) close() { p.cancel() }

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, steps...))
}

func (p *tab) eval(expression string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	require.NoError(p.t, err)
	return s
}

// waits waits until an expression of the page is true.
func (p *tab) waits(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience+time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression,
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(patience)))
	if err != nil {
		require.NoError(p.t, err, "waiting for %s; the page shows:\n%s", what,
			p.eval("document.body.innerText"))
	}
}

func (p *tab) value(css string) string {
	p.t.Helper()
	return p.eval(fmt.Sprintf(`document.querySelector(%q).value`, css))
}

func (p *tab) click(css string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(css)))
}

// types clicks a field and types. It is not chromedp.SendKeys, which in v0.23.0 races
// with changes of the field's attributes.
func (p *tab) types(css, keys string) {
	p.t.Helper()
	p.click(css)
	p.keys(keys)
}

func (p *tab) keys(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// say types a message and sends it.
func (p *tab) say(text string) {
	p.t.Helper()
	p.types("#message", text)
	p.click("#send")
}

// state waits for a state of the connection.
func (p *tab) state(name string) {
	p.t.Helper()
	p.waits(name, fmt.Sprintf(`document.querySelector("#status").dataset.state === %q`, name))
}

func (p *tab) inRoom(room string) {
	p.t.Helper()
	p.waits("room "+room, fmt.Sprintf(`document.querySelector("#room").dataset.room === %q`, room))
}

// people waits until the list shows exactly these.
func (p *tab) people(names ...string) {
	p.t.Helper()
	want := strings.Join(names, " ")
	p.waits("people "+want, fmt.Sprintf(`[...document.querySelectorAll("#people [data-user]")]
		.map((e) => e.dataset.user).join(" ") === %q`, want))
}

// reads waits for a message.
func (p *tab) reads(from, text string) {
	p.t.Helper()
	p.waits(from+": "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .chat-line")]
		.some((e) => e.dataset.from === %q && e.querySelector(".text").textContent === %q)`, from, text))
}

// notes waits for a notice.
func (p *tab) notes(text string) {
	p.t.Helper()
	p.waits("notice "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .note")]
		.some((e) => e.textContent.includes(%q))`, text))
}

// hasNot checks that a text is not in the timeline.
func (p *tab) hasNot(text string) {
	p.t.Helper()
	require.NotContains(p.t, p.eval(`document.querySelector("#timeline").textContent`), text)
}

// fits checks that nothing is wider than the screen.
func (p *tab) fits() {
	p.t.Helper()
	require.Equal(p.t, "", p.eval(`[...document.querySelectorAll("body, body *")]
		.filter((e) => e.checkVisibility() && !e.closest("#people")
			&& getComputedStyle(e).position !== "absolute"
			&& e.getBoundingClientRect().right > innerWidth)
		.map((e) => e.outerHTML.slice(0, 80)).join("\n")`), "wider than the screen")
	require.Equal(p.t, "true", p.eval(`String([document.documentElement,
		document.querySelector("#timeline")].every((e) => e.scrollWidth <= e.clientWidth))`))
}

// tabTo presses the tabulator key until a condition holds.
func (p *tab) tabTo(condition string) {
	p.t.Helper()
	for range 30 {
		if p.eval(`String(`+condition+`)`) == "true" {
			return
		}
		p.keys(kb.Tab)
	}
	require.Fail(p.t, "not in reach of the keyboard", condition)
}
