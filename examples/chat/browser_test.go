package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/internal/long"
)

// TestPage drives the page in a browser: first against the command, then against
// servers that do what ours does not do on demand. How the client behaves in trouble is
// tested with the client, in js and in examples/jsclient. The short form is that people talk, each
// with several tabs, on any screen, with or without a mouse.
func TestPage(t *testing.T) {
	chromium := browser.Start(t)
	command := build(t)
	against := func(name string, test func(*testing.T, *site)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &site{
				t: t, profile: chromium.Profile(t), command: command, addr: freeAddr(t),
				data: filepath.Join(t.TempDir(), "streams.db"),
			}
			s.start()
			test(t, s)
		})
	}
	against("room", testRoom)
	against("two tabs", testTwoTabs)
	against("small screen and keyboard", testKeyboard)
	against("accessibility", testAccessibility)
	if !long.Enabled() {
		return
	}
	against("history", testHistory)
	against("away", testAway)
	against("cuts", testCuts)
	against("private", testPrivate)
	against("crash", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGKILL) })
	against("shutdown", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGTERM) })
	against("names", testNames)
	against("plain", testPlain)
	pretending := func(name string, test func(*testing.T, *browser.Profile)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, chromium.Profile(t))
		})
	}
	pretending("close codes", testCloseCodes)
	pretending("refusals", testRefusals)
	pretending("odd frames", testOddFrames)
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
	bob.Types("#next-room", "attic"+kb.Enter)
	bob.inRoom("attic")
	alice.notes("bob left lobby")
	alice.people("alice")
	alice.say("alone")
	alice.reads("alice", "alone")
	alice.Click("[name=to][value=all]")
	alice.say("everybody")
	bob.reads("alice", "everybody")
	bob.hasNot("alone")

	// Who has left is in no room, so what he writes to it stays where it is.
	bob.Click("#leave")
	bob.notes("You have left attic")
	bob.inRoom("")
	bob.say("to nobody")
	require.Equal(t, "to nobody", bob.Value("#message"))
	alice.Types("#next-room", "attic"+kb.Enter)
	alice.inRoom("attic")
	alice.people("alice")
}

func testPrivate(t *testing.T, s *site) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	carol := s.enter("carol", "lobby")
	alice.people("alice", "bob", "carol")
	alice.Click("#people [data-user=bob]")
	alice.say("between us")
	bob.reads("alice", "between us")
	alice.reads("alice", "between us") // its own copy
	alice.Waits("the copy says to whom", `document.querySelector(".own .private")
		?.textContent.includes("to bob only")`)

	// What alice says next comes next, so then carol would have had it.
	alice.Click("[name=to][value=room]")
	alice.say("to all of you")
	carol.reads("alice", "to all of you")
	carol.hasNot("between us")

	// A word of the protocol is no person: it would go to everybody.
	alice.Click("[name=to][value=user]")
	alice.Types("#person", strings.Repeat(kb.Backspace, len("bob"))+"all")
	alice.Waits("the reason", `document.querySelector("#send-hint").textContent.includes("reserved")`)
	alice.say("oops")
	alice.hasNot("oops")
	require.Equal(t, "oops", alice.Value("#message"))
}

func testTwoTabs(t *testing.T, s *site) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	second := s.enter("alice", "lobby")
	for _, p := range []*tab{alice, bob, second} {
		p.people("alice", "bob")
	}
	second.Close()
	s.connections(2)
	alice.say("still here")
	bob.reads("alice", "still here")
	bob.people("alice", "bob")
	bob.hasNot("alice left lobby")
	bob.hasNot("alice went offline")

	alice.Close() // her last one is seen
	bob.notes("alice left lobby")
	bob.notes("alice went offline")
	bob.people("bob")
}

func testRestart(_ *testing.T, s *site, how syscall.Signal) {
	alice, bob := s.enter("alice", "lobby"), s.enter("bob", "lobby")
	s.stop(how)
	for _, p := range []*tab{alice, bob} {
		p.state("waiting")
		p.Waits("the word", `document.querySelector("#status").innerText.includes("Offline")`)
		p.Waits("no room", `document.querySelector("#room").dataset.room === ""`)
	}
	// What is written meanwhile is kept, and not sent to nobody.
	alice.say("are you back?")
	s.start()
	for _, p := range []*tab{alice, bob} {
		p.state("open")
		p.inRoom("lobby")
		p.people("alice", "bob")
		p.notes("Some messages are missing: the server has lost them.")
	}
	alice.Click("#send")
	bob.reads("alice", "are you back?")
	bob.say("yes")
	alice.reads("bob", "yes")
}

// testHistory has somebody come to a room in which much was said before.
func testHistory(t *testing.T, s *site) {
	s.speak("lobby", 1, 120)
	alice := s.enter("alice", "lobby")
	alice.reads("bot", "no 120.")
	alice.hasNot("no 70.")
	alice.shows("bot", 71, 120)
	alice.Run(`document.querySelector("#timeline").scrollTop = 0`)
	alice.shows("bot", 21, 120)
	alice.Run(`document.querySelector("#timeline").scrollTop = 0`)
	alice.shows("bot", 1, 120)
	require.Equal(t, "true", alice.Eval(`String(document.querySelector("#older").hidden)`))

	alice.Types("#next-room", "attic"+kb.Enter)
	alice.inRoom("attic")
	alice.hasNot("no 120")
	alice.Types("#next-room", "lobby"+kb.Enter)
	alice.shows("bot", 71, 120)
}

// testAway has alice write to bob, who is away. The server is killed and comes back before he does.
func testAway(t *testing.T, s *site) {
	s.stop(syscall.SIGKILL)
	s.durable = true
	s.start()
	alice := s.enter("alice", "lobby")
	alice.say("before")
	alice.reads("alice", "before")
	alice.Click("[name=to][value=user]")
	alice.Types("#person", "bob")
	alice.say("read this")
	alice.Waits("the fate", `document.querySelector(".fate")?.textContent.includes("kept for later")`)
	s.stop(syscall.SIGKILL)
	s.start()
	alice.state("open")
	alice.inRoom("lobby")

	bob := s.enter("bob", "lobby")
	bob.reads("alice", "read this")
	bob.reads("alice", "before")
	bob.Waits("once", `document.querySelectorAll(".chat-line .private").length === 1`)
	alice.say("and this")
	bob.reads("alice", "and this")
	alice.Waits("the fate", `[...document.querySelectorAll(".fate")].at(-1).textContent.includes("delivered")`)
	bob.Close()
	again := s.enter("bob", "lobby")
	again.reads("alice", "before")
	require.Equal(t, "0", again.Eval(`String(document.querySelectorAll(".chat-line .private").length)`))
}

// testCuts has somebody read a thousand messages while his network is cut again and again.
func testCuts(t *testing.T, s *site) {
	line := cuttable(t, s.addr)
	p := &tab{s.profile.Open(t, "http://"+line.Addr().String()+"/?name=alice&room=lobby"), t}
	p.inRoom("lobby")
	p.Run(`window.read = [];
		new MutationObserver((changes) => {
			for (const { addedNodes } of changes) for (const line of addedNodes) {
				if (line.dataset.from === "bot") window.read.push(line.querySelector(".text").textContent);
			}
		}).observe(document.querySelector("#timeline"), { childList: true });
		setInterval(() => { // or it waits longer after each cut
			if (!document.querySelector("#retry").hidden) document.querySelector("#retry").click();
		}, 200)`)
	const all, cuts = 1000, 10
	for i := range cuts {
		s.speak("lobby", i*all/cuts+1, (i+1)*all/cuts)
		line.cut()
		p.state("open")
	}
	p.Waits("all of them", fmt.Sprintf(`window.read.length >= %d`, all))
	p.notes("Recovered ")
	var want []string
	for i := range all {
		want = append(want, fmt.Sprintf("no %d.", i+1))
	}
	require.Equal(t, strings.Join(want, " "), p.Eval(`window.read.join(" ")`))
}

// speak has a bot say something to a room so many times.
func (s *site) speak(room string, from, to int) {
	s.t.Helper()
	bot, err := client.Dial(s.t.Context(), "ws://"+s.addr+"/ws?user_id=bot", nil)
	require.NoError(s.t, err)
	defer bot.Close()
	for i := from; i <= to; i++ {
		content := fmt.Appendf(nil, `{"content":"no %d."}`, i)
		require.NoError(s.t, bot.Send(s.t.Context(), realtime.ToRoom(room), realtime.Message{Content: content}))
	}
}

// lineTo is a way to a server that can be cut.
type lineTo struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func cuttable(t *testing.T, addr string) *lineTo {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	line := &lineTo{Listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		line.cut()
	})
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = near.Close()
				continue
			}
			line.mu.Lock()
			line.open = append(line.open, near, far)
			line.mu.Unlock()
			go pass(near, far)
			go pass(far, near)
		}
	}()
	return line
}

func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// cut ends all connections, without a word.
func (l *lineTo) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

func testKeyboard(t *testing.T, s *site) {
	bob := s.enter("bob", "lobby")
	p := s.open("/?room=lobby")
	p.Do(chromedp.EmulateViewport(320, 640))
	p.fits()
	p.Keys("dora" + kb.Tab + kb.Enter) // past the room, which is filled in already
	p.inRoom("lobby")
	p.Keys("typed" + kb.Enter)
	bob.reads("dora", "typed")
	bob.say(strings.Repeat("unbroken", 50))
	p.reads("bob", strings.Repeat("unbroken", 50))
	p.fits()

	p.tabTo(`document.activeElement.dataset.user === "bob"`)
	p.Keys(kb.Enter)
	require.Equal(t, "bob", p.Value("#person"))
	p.Keys("only you" + kb.Enter)
	bob.reads("dora", "only you")
	p.fits()
}

func testNames(t *testing.T, s *site) {
	p := s.open("/?name=all")
	p.Waits("the reason", `document.querySelector("#name-error").innerText.includes("reserved")`)
	p.Do(chromedp.WaitVisible(chromedp.CSS("#name-error")))
	require.Equal(t, "true", p.Eval(`document.querySelector("#name").ariaInvalid`))
	p.Keys(strings.Repeat(kb.Backspace, 3) + "eve" + kb.Enter)
	p.inRoom("general")
	p.people("eve")

	again := s.open("/")
	require.Equal(t, "eve", again.Value("#name"), "the name is remembered")
	anonymous := s.open("/?name=&room=general")
	anonymous.inRoom("general")
	anonymous.people("eve")
	anonymous.say("who am I?")
	p.reads("", "who am I?")

	p.Click("#quit")
	p.Do(chromedp.WaitVisible(chromedp.CSS("#entrance")))
	anonymous.notes("eve went offline")
}

// testPlain has the page without a library talk to the one with it.
func testPlain(_ *testing.T, s *site) {
	alice, plain := s.enter("alice", "lobby"), s.open("/plain?name=bob")
	alice.notes("bob came online")
	plain.Types("[name=text]", "from afar"+kb.Enter)
	alice.reads("bob", "from afar")
	alice.Click("[name=to][value=all]")
	alice.say("hello, bob")
	plain.Waits("the answer", `document.querySelector("#said").innerText.includes("alice: hello, bob")`)
}

// testAccessibility has axe-core look at the page in each of its states.
func testAccessibility(t *testing.T, s *site) {
	dir := browser.Install(t, "axe-core@4.14.1")
	axe, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	require.NoError(t, err)
	look := func(p *tab, state string) {
		p.Run(`window.violations = undefined; axe.run().then((r) => {
			window.violations = r.violations.map((v) => v.id + ": " + v.nodes[0].html).join()
		})`)
		p.Waits("axe-core", `window.violations !== undefined`)
		require.Equal(t, "", p.Eval(`window.violations`), state)
	}
	plain := s.open("/plain")
	plain.Run(string(axe))
	look(plain, "plain")
	p := s.open("/")
	p.Run(string(axe))
	look(p, "entrance")
	p.Types("#name", "all"+kb.Enter)
	p.Waits("the reason", `document.querySelector("#name-error").innerText !== ""`)
	look(p, "error")
	p.Keys(strings.Repeat(kb.Backspace, 3) + "eve" + kb.Enter)
	p.inRoom("general")
	bob := s.enter("bob", "general")
	bob.say("hello")
	p.reads("bob", "hello")
	look(p, "chat")
	p.Do(chromedp.EmulateViewport(320, 640))
	look(p, "small screen")
	s.stop(syscall.SIGKILL)
	p.state("waiting")
	look(p, "offline")
}

// testCloseCodes closes the socket of a page that is online.
func testCloseCodes(t *testing.T, profile *browser.Profile) {
	for code, state := range map[websocket.StatusCode]string{
		1000: "closed", 1008: "closed", 4403: "closed", 4429: "closed",
		1011: "waiting", 1012: "waiting", 4300: "waiting", 4308: "waiting",
	} {
		t.Run(fmt.Sprint(int(code)), func(t *testing.T) {
			f := &fake{opened: func(n int64, c *websocket.Conn) {
				if n == 1 {
					_ = c.Close(code, "because")
				}
			}}
			p := f.open(t, profile)
			if state == "waiting" {
				f.reaches(t, profile, 2)
				p.state("open")
				return
			}
			p.state("closed")
			p.Waits("the reason", fmt.Sprintf(`["code %d", "because"].every(
				(s) => document.querySelector("#why").innerText.includes(s))`, code))
			p.Click("#retry")
			p.state("open")
			require.EqualValues(t, 2, f.requests.Load(), "it came back by itself")
		})
	}
}

// testRefusals refuses the handshake.
func testRefusals(t *testing.T, profile *browser.Profile) {
	for _, tt := range []struct {
		status      int
		body        string
		state, said string
	}{
		{400, `{"error":"invalid user id"}`, "closed", "invalid user id (400)"},
		{403, ``, "closed", "HTTP 403 (403)"},
		{426, `{"error":"use a WebSocket"}`, "waiting", "no WebSocket opens"},
		{429, `{"error":"too many connections"}`, "waiting", "too many connections (429)"},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			f := &fake{refused: func(w http.ResponseWriter) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}}
			p := f.open(t, profile)
			p.state(tt.state)
			p.Waits("the reason", fmt.Sprintf(
				`document.querySelector("#why").innerText.includes(%q)`, tt.said))
		})
	}
}

// testOddFrames sends what a server may learn to send, and more than the page keeps.
func testOddFrames(t *testing.T, profile *browser.Profile) {
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
	p.Waits("an end", `document.querySelectorAll("#timeline > *").length === 500`)
	p.Waits("the newest in sight", `(({scrollTop, clientHeight, scrollHeight}) =>
		scrollTop + clientHeight > scrollHeight - 48)(document.querySelector("#timeline"))`)
}

// ------------------------------------------------------------ the command

// site is the command, running.
type site struct {
	t       *testing.T
	profile *browser.Profile
	command string
	addr    string
	data    string // the file that keeps what is kept, if durable
	durable bool
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
	args := []string{"-addr", s.addr}
	if s.durable {
		args = append(args, "-data", s.data)
	}
	s.running = exec.Command(s.command, args...)
	s.running.Stderr = s.t.Output()
	require.NoError(s.t, s.running.Start())
	s.t.Cleanup(func() { s.stop(syscall.SIGKILL) })
	require.Eventually(s.t, func() bool {
		resp, err := http.Get("http://" + s.addr)
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, s.profile.Patience(), 20*time.Millisecond, "the command does not answer")
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
	}, s.profile.Patience(), 20*time.Millisecond, "connections: want %d", n)
}

func (s *site) open(path string) *tab {
	return &tab{s.profile.Open(s.t, "http://"+s.addr+path), s.t}
}

// enter opens the page as this user in this room, and waits until he is there.
func (s *site) enter(user, room string) *tab {
	p := s.open("/?" + url.Values{"name": {user}, "room": {room}}.Encode())
	p.state("open")
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

// open opens the page in a tab.
func (f *fake) open(t *testing.T, profile *browser.Profile) *tab {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pages, "page.html")
	})
	mux.Handle("/realtime.js", (*realtime.Manager)(nil).ClientJS())
	mux.HandleFunc("/ws", f.serve)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &tab{profile.Open(t, srv.URL+"/?name=alice"), t}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	n := f.requests.Add(1)
	if f.refused != nil {
		f.refused(w)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{realtime.V1}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	welcome := `{"message_type":"welcome","content":{"connection_id":"conn_x"},"timestamp":1}`
	_ = c.Write(r.Context(), websocket.MessageText, []byte(welcome))
	f.opened(n, c)
	for err == nil { // until the page goes
		_, _, err = c.Read(context.Background())
	}
}

// reaches waits for the n-th request.
func (f *fake) reaches(t *testing.T, profile *browser.Profile, n int64) {
	require.Eventually(t, func() bool { return f.requests.Load() >= n }, profile.Patience(), 10*time.Millisecond,
		"sockets: want %d", n)
}

// tab is one page in the browser, with the chat in it.
type tab struct {
	*browser.Tab
	t *testing.T
}

// say types a message and sends it.
func (p *tab) say(text string) {
	p.t.Helper()
	p.Types("#message", text)
	p.Click("#send")
}

// state waits for a state of the connection.
func (p *tab) state(name string) {
	p.t.Helper()
	p.Waits(name, fmt.Sprintf(`document.querySelector("#status").dataset.state === %q`, name))
}

func (p *tab) inRoom(room string) {
	p.t.Helper()
	p.Waits("room "+room, fmt.Sprintf(`document.querySelector("#room").dataset.room === %q`, room))
}

// people waits until the list shows exactly these.
func (p *tab) people(names ...string) {
	p.t.Helper()
	want := strings.Join(names, " ")
	p.Waits("people "+want, fmt.Sprintf(`[...document.querySelectorAll("#people [data-user]")]
		.map((e) => e.dataset.user).join(" ") === %q`, want))
}

// reads waits for a message.
func (p *tab) reads(from, text string) {
	p.t.Helper()
	p.Waits(from+": "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .chat-line")]
		.some((e) => e.dataset.from === %q && e.querySelector(".text").textContent === %q)`, from, text))
}

// notes waits for a notice.
func (p *tab) notes(text string) {
	p.t.Helper()
	p.Waits("notice "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .note")]
		.some((e) => e.textContent.includes(%q))`, text))
}

// shows waits until the timeline has what the bot said, each once and in order, and nothing else of it.
func (p *tab) shows(from string, first, last int) {
	p.t.Helper()
	p.Waits(fmt.Sprint("no ", first, " to ", last), fmt.Sprintf(`[...document.querySelectorAll(
		"#timeline .chat-line[data-from=%s] .text")].map((e) => e.textContent).join(" ") ===
		Array.from({ length: %d }, (_, i) => "no " + (i + %d) + ".").join(" ")`, from, last-first+1, first))
}

// hasNot checks that a text is not in the timeline.
func (p *tab) hasNot(text string) {
	p.t.Helper()
	require.NotContains(p.t, p.Eval(`document.querySelector("#timeline").textContent`), text)
}

// fits checks that nothing is wider than the screen.
func (p *tab) fits() {
	p.t.Helper()
	require.Equal(p.t, "", p.Eval(`[...document.querySelectorAll("body, body *")]
		.filter((e) => e.checkVisibility() && !e.closest("#people")
			&& getComputedStyle(e).position !== "absolute"
			&& e.getBoundingClientRect().right > innerWidth)
		.map((e) => e.outerHTML.slice(0, 80)).join("\n")`), "wider than the screen")
	require.Equal(p.t, "true", p.Eval(`String([document.documentElement,
		document.querySelector("#timeline")].every((e) => e.scrollWidth <= e.clientWidth))`))
}

// tabTo presses the tabulator key until a condition holds.
func (p *tab) tabTo(condition string) {
	p.t.Helper()
	for range 30 {
		if p.Eval(`String(`+condition+`)`) == "true" {
			return
		}
		p.Keys(kb.Tab)
	}
	require.Fail(p.t, "not in reach of the keyboard", condition)
}
