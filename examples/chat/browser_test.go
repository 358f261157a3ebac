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

// TestPage drives the page in a browser, with the command as the server, and with servers that send
// what the command does not send on demand. The tests in js and examples/jsclient test how the
// client handles failures. The short form tests a conversation of users with several tabs, on small
// and large screens, with a mouse and with the keyboard.
func TestPage(t *testing.T) {
	chromium := browser.Start(t)
	command := buildCommand(t)
	withCommand := func(name string, test func(*testing.T, *site)) {
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
	withCommand("room", testRoom)
	withCommand("two tabs", testTwoTabs)
	withCommand("small screen and keyboard", testKeyboard)
	withCommand("accessibility", testAccessibility)
	if !long.Enabled() {
		return
	}
	withCommand("history", testHistory)
	withCommand("absent", testAbsentUser)
	withCommand("away", testAway)
	withCommand("cuts", testLostConnections)
	withCommand("private", testPrivate)
	withCommand("crash", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGKILL) })
	withCommand("shutdown", func(t *testing.T, s *site) { testRestart(t, s, syscall.SIGTERM) })
	withCommand("names", testNames)
	withCommand("plain", testPlain)
	withFakeServer := func(name string, test func(*testing.T, *browser.Profile)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, chromium.Profile(t))
		})
	}
	withFakeServer("close codes", testCloseCodes)
	withFakeServer("refusals", testRefusals)
	withFakeServer("odd frames", testUnknownFrames)
}

func testRoom(t *testing.T, s *site) {
	alice, bob := s.openRoom("alice", "lobby"), s.openRoom("bob", "lobby")
	alice.awaitMembers("alice", "bob")
	bob.awaitMembers("alice", "bob")
	alice.awaitNotice("bob joined lobby")
	bob.requireAbsent("alice joined lobby")
	alice.Type("#message", "hel")
	bob.WaitFor("the sign that alice is typing", `document.querySelector("#typing").textContent === "alice is typing…"`)
	alice.send("lo")
	bob.awaitMessage("alice", "hello")
	bob.WaitFor("no sign", `document.querySelector("#typing").hidden`)
	alice.awaitMessage("alice", "hello")
	bob.send("<b>hi</b>")
	alice.awaitMessage("bob", "<b>hi</b>")

	// A user that joins another room is seen to leave, and no longer receives the messages of the
	// room.
	bob.Type("#next-room", "attic"+kb.Enter)
	bob.awaitRoom("attic")
	alice.awaitNotice("bob left lobby")
	alice.awaitMembers("alice")
	alice.send("alone")
	alice.awaitMessage("alice", "alone")
	alice.Click("[name=to][value=all]")
	alice.send("everybody")
	bob.awaitMessage("alice", "everybody")
	bob.requireAbsent("alone")

	// A user that has left is in no room, so a message to the room is not sent and stays in the
	// field.
	bob.Click("#leave")
	bob.awaitNotice("You have left attic")
	bob.awaitRoom("")
	bob.send("to nobody")
	require.Equal(t, "to nobody", bob.Value("#message"))
	alice.Type("#next-room", "attic"+kb.Enter)
	alice.awaitRoom("attic")
	alice.awaitMembers("alice")
}

func testPrivate(t *testing.T, s *site) {
	alice, bob := s.openRoom("alice", "lobby"), s.openRoom("bob", "lobby")
	carol := s.openRoom("carol", "lobby")
	alice.awaitMembers("alice", "bob", "carol")
	alice.Click("#people [data-user=bob]")
	alice.send("between us")
	bob.awaitMessage("alice", "between us")
	alice.awaitMessage("alice", "between us") // added by the page
	alice.WaitFor("the name of the receiver", `document.querySelector(".own .private")
		?.textContent.includes("to bob only")`)

	// Messages of alice arrive in order, so carol would have received the earlier one by now.
	alice.Click("[name=to][value=room]")
	alice.send("to all of you")
	carol.awaitMessage("alice", "to all of you")
	carol.requireAbsent("between us")

	// A reserved word is not a user name: the server would send the message to all.
	alice.Click("[name=to][value=user]")
	alice.Type("#person", strings.Repeat(kb.Backspace, len("bob"))+"all")
	alice.WaitFor("the reason", `document.querySelector("#send-hint").textContent.includes("reserved")`)
	alice.send("oops")
	alice.requireAbsent("oops")
	require.Equal(t, "oops", alice.Value("#message"))
}

func testTwoTabs(t *testing.T, s *site) {
	alice, bob := s.openRoom("alice", "lobby"), s.openRoom("bob", "lobby")
	second := s.openRoom("alice", "lobby")
	for _, p := range []*tab{alice, bob, second} {
		p.awaitMembers("alice", "bob")
	}
	second.Close()
	s.awaitConnections(2)
	alice.send("still here")
	bob.awaitMessage("alice", "still here")
	bob.awaitMembers("alice", "bob")
	bob.requireAbsent("alice left lobby")
	bob.requireAbsent("alice went offline")

	alice.Close() // the last tab of alice
	bob.awaitNotice("alice left lobby")
	bob.awaitNotice("alice went offline")
	bob.awaitMembers("bob")
}

func testRestart(_ *testing.T, s *site, how syscall.Signal) {
	alice, bob := s.openRoom("alice", "lobby"), s.openRoom("bob", "lobby")
	s.stop(how)
	for _, p := range []*tab{alice, bob} {
		p.awaitState("waiting")
		p.WaitFor("the state", `document.querySelector("#status").innerText.includes("Offline")`)
		p.WaitFor("no room", `document.querySelector("#room").dataset.room === ""`)
	}
	// A message written meanwhile stays in the field.
	alice.send("are you back?")
	s.start()
	for _, p := range []*tab{alice, bob} {
		p.awaitState("open")
		p.awaitRoom("lobby")
		p.awaitMembers("alice", "bob")
		p.awaitNotice("Some messages are missing: the server has lost them.")
	}
	alice.Click("#send")
	bob.awaitMessage("alice", "are you back?")
	bob.send("yes")
	alice.awaitMessage("bob", "yes")
}

// testHistory opens a room that keeps many messages.
func testHistory(t *testing.T, s *site) {
	s.sendAsBot("lobby", 1, 120)
	alice := s.openRoom("alice", "lobby")
	alice.awaitMessage("bot", "no 120.")
	alice.requireAbsent("no 70.")
	alice.awaitHistory("bot", 71, 120)
	alice.Run(`document.querySelector("#timeline").scrollTop = 0`)
	alice.awaitHistory("bot", 21, 120)
	alice.Run(`document.querySelector("#timeline").scrollTop = 0`)
	alice.awaitHistory("bot", 1, 120)
	require.Equal(t, "true", alice.Eval(`String(document.querySelector("#older").hidden)`))

	alice.Type("#next-room", "attic"+kb.Enter)
	alice.awaitRoom("attic")
	alice.requireAbsent("no 120")
	alice.Type("#next-room", "lobby"+kb.Enter)
	alice.awaitHistory("bot", 71, 120)
}

// testAbsentUser sends a private message to bob, who is absent. The server is killed and restarted
// before bob returns.
func testAbsentUser(t *testing.T, s *site) {
	s.stop(syscall.SIGKILL)
	s.durable = true
	s.start()
	alice := s.openRoom("alice", "lobby")
	alice.send("before")
	alice.awaitMessage("alice", "before")
	alice.Click("[name=to][value=user]")
	alice.Type("#person", "bob")
	alice.send("read this")
	alice.WaitFor("the receipt", `document.querySelector(".receipt")?.textContent.includes("kept for later")`)
	s.stop(syscall.SIGKILL)
	s.start()
	alice.awaitState("open")
	alice.awaitRoom("lobby")

	bob := s.openRoom("bob", "lobby")
	bob.awaitMessage("alice", "read this")
	bob.awaitMessage("alice", "before")
	bob.WaitFor("one message", `document.querySelectorAll(".chat-line .private").length === 1`)
	alice.send("and this")
	bob.awaitMessage("alice", "and this")
	alice.WaitFor("the receipt", `[...document.querySelectorAll(".receipt")].at(-1).textContent.includes("delivered")`)
	bob.Close()
	again := s.openRoom("bob", "lobby")
	again.awaitMessage("alice", "before")
	require.Equal(t, "0", again.Eval(`String(document.querySelectorAll(".chat-line .private").length)`))
}

// testAway cuts the connection of bob, who is away until it is clear that it does not come back.
func testAway(t *testing.T, s *site) {
	line := newBreakableProxy(t, s.addr)
	bob := &tab{s.profile.Open(t, "http://"+line.Addr().String()+"/?name=bob&room=lobby"), t}
	bob.awaitRoom("lobby")
	alice := s.openRoom("alice", "lobby")
	alice.awaitMembers("alice", "bob")
	bob.Type("#message", "half a")
	alice.WaitFor("the sign that bob is typing", `!document.querySelector("#typing").hidden`)
	require.NoError(t, line.Close())
	line.cutAll()
	alice.WaitFor("bob is away", `document.querySelector(".person.away")?.textContent === "bob (away)"`)
	alice.WaitFor("no sign", `document.querySelector("#typing").hidden`)
	alice.requireAbsent("bob left lobby")
	alice.awaitNotice("bob left lobby")
	alice.awaitMembers("alice")
	bob.awaitMembers("alice", "bob") // what it last knew
}

// testLostConnections sends 1,000 messages to a page whose connections end again and again.
func testLostConnections(t *testing.T, s *site) {
	line := newBreakableProxy(t, s.addr)
	p := &tab{s.profile.Open(t, "http://"+line.Addr().String()+"/?name=alice&room=lobby"), t}
	p.awaitRoom("lobby")
	p.Run(`window.read = [];
		new MutationObserver((changes) => {
			for (const { addedNodes } of changes) for (const line of addedNodes) {
				if (line.dataset.from === "bot") window.read.push(line.querySelector(".text").textContent);
			}
		}).observe(document.querySelector("#timeline"), { childList: true });
		setInterval(() => { // otherwise the waits grow with each failure
			if (!document.querySelector("#retry").hidden) document.querySelector("#retry").click();
		}, 200)`)
	const all, cuts = 1000, 10
	for i := range cuts {
		s.sendAsBot("lobby", i*all/cuts+1, (i+1)*all/cuts)
		line.cutAll()
		p.awaitState("open")
	}
	p.WaitFor("all messages", fmt.Sprintf(`window.read.length >= %d`, all))
	p.awaitNotice("Recovered ")
	var want []string
	for i := range all {
		want = append(want, fmt.Sprintf("no %d.", i+1))
	}
	require.Equal(t, strings.Join(want, " "), p.Eval(`window.read.join(" ")`))
}

// sendAsBot sends numbered messages of a bot to a room.
func (s *site) sendAsBot(room string, from, to int) {
	s.t.Helper()
	bot, err := client.Dial(s.t.Context(), "ws://"+s.addr+"/ws?user_id=bot", nil)
	require.NoError(s.t, err)
	defer bot.Close()
	for i := from; i <= to; i++ {
		content := fmt.Appendf(nil, `{"content":"no %d."}`, i)
		require.NoError(s.t, bot.Send(s.t.Context(), realtime.ToRoom(room), realtime.Message{Content: content}))
	}
}

// breakableProxy is a TCP proxy whose connections can be closed.
type breakableProxy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newBreakableProxy(t *testing.T, addr string) *breakableProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	line := &breakableProxy{Listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		line.cutAll()
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
			line.conns = append(line.conns, near, far)
			line.mu.Unlock()
			go forward(near, far)
			go forward(far, near)
		}
	}()
	return line
}

func forward(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// cutAll closes all connections without a closing handshake.
func (l *breakableProxy) cutAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func testKeyboard(t *testing.T, s *site) {
	bob := s.openRoom("bob", "lobby")
	p := s.open("/?room=lobby")
	p.Do(chromedp.EmulateViewport(320, 640))
	p.requireFits()
	p.Keys("dora" + kb.Tab + kb.Enter) // skips the room, which is filled in
	p.awaitRoom("lobby")
	p.Keys("typed" + kb.Enter)
	bob.awaitMessage("dora", "typed")
	bob.send(strings.Repeat("unbroken", 50))
	p.awaitMessage("bob", strings.Repeat("unbroken", 50))
	p.requireFits()

	p.pressTabUntil(`document.activeElement.dataset.user === "bob"`)
	p.Keys(kb.Enter)
	require.Equal(t, "bob", p.Value("#person"))
	p.Keys("only you" + kb.Enter)
	bob.awaitMessage("dora", "only you")
	p.requireFits()
}

func testNames(t *testing.T, s *site) {
	p := s.open("/?name=all")
	p.WaitFor("the reason", `document.querySelector("#name-error").innerText.includes("reserved")`)
	p.Do(chromedp.WaitVisible(chromedp.CSS("#name-error")))
	require.Equal(t, "true", p.Eval(`document.querySelector("#name").ariaInvalid`))
	p.Keys(strings.Repeat(kb.Backspace, 3) + "eve" + kb.Enter)
	p.awaitRoom("general")
	p.awaitMembers("eve")

	again := s.open("/")
	require.Equal(t, "eve", again.Value("#name"), "the name is remembered")
	anonymous := s.open("/?name=&room=general")
	anonymous.awaitRoom("general")
	anonymous.awaitMembers("eve")
	anonymous.send("who am I?")
	p.awaitMessage("", "who am I?")

	p.Click("#quit")
	p.Do(chromedp.WaitVisible(chromedp.CSS("#entrance")))
	anonymous.awaitNotice("eve went offline")
}

// testPlain sends messages between the page without a library and the page with it.
func testPlain(_ *testing.T, s *site) {
	alice, plain := s.openRoom("alice", "lobby"), s.open("/plain?name=bob")
	alice.awaitNotice("bob came online")
	plain.Type("[name=text]", "from afar"+kb.Enter)
	alice.awaitMessage("bob", "from afar")
	alice.Click("[name=to][value=all]")
	alice.send("hello, bob")
	plain.WaitFor("the answer", `document.querySelector("#said").innerText.includes("alice: hello, bob")`)
}

// testAccessibility checks the page with axe-core in each of its states.
func testAccessibility(t *testing.T, s *site) {
	dir := browser.Install(t, "axe-core@4.14.1")
	axe, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	require.NoError(t, err)
	look := func(p *tab, state string) {
		p.Run(`window.violations = undefined; axe.run().then((r) => {
			window.violations = r.violations.map((v) => v.id + ": " + v.nodes[0].html).join()
		})`)
		p.WaitFor("axe-core", `window.violations !== undefined`)
		require.Equal(t, "", p.Eval(`window.violations`), state)
	}
	plain := s.open("/plain")
	plain.Run(string(axe))
	look(plain, "plain")
	p := s.open("/")
	p.Run(string(axe))
	look(p, "entrance")
	p.Type("#name", "all"+kb.Enter)
	p.WaitFor("the reason", `document.querySelector("#name-error").innerText !== ""`)
	look(p, "error")
	p.Keys(strings.Repeat(kb.Backspace, 3) + "eve" + kb.Enter)
	p.awaitRoom("general")
	bob := s.openRoom("bob", "general")
	bob.send("hello")
	p.awaitMessage("bob", "hello")
	look(p, "chat")
	p.Do(chromedp.EmulateViewport(320, 640))
	look(p, "small screen")
	s.stop(syscall.SIGKILL)
	p.awaitState("waiting")
	look(p, "offline")
}

// testCloseCodes closes the connection of an open page with different codes.
func testCloseCodes(t *testing.T, profile *browser.Profile) {
	for code, state := range map[websocket.StatusCode]string{
		1000: "closed", 1008: "closed", 4403: "closed", 4429: "closed",
		1011: "waiting", 1012: "waiting", 4300: "waiting", 4308: "waiting",
	} {
		t.Run(fmt.Sprint(int(code)), func(t *testing.T) {
			f := &fakeServer{opened: func(n int64, c *websocket.Conn) {
				if n == 1 {
					_ = c.Close(code, "because")
				}
			}}
			p := f.open(t, profile)
			if state == "waiting" {
				f.awaitRequests(t, profile, 2)
				p.awaitState("open")
				return
			}
			p.awaitState("closed")
			p.WaitFor("the reason", fmt.Sprintf(`["code %d", "because"].every(
				(s) => document.querySelector("#why").innerText.includes(s))`, code))
			p.Click("#retry")
			p.awaitState("open")
			require.EqualValues(t, 2, f.requests.Load(), "number of connections")
		})
	}
}

// testRefusals refuses the handshake in different ways.
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
			f := &fakeServer{refused: func(w http.ResponseWriter) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}}
			p := f.open(t, profile)
			p.awaitState(tt.state)
			p.WaitFor("the reason", fmt.Sprintf(
				`document.querySelector("#why").innerText.includes(%q)`, tt.said))
		})
	}
}

// testUnknownFrames sends frames that the page does not know, and more messages than it keeps.
func testUnknownFrames(t *testing.T, profile *browser.Profile) {
	f := &fakeServer{opened: func(_ int64, c *websocket.Conn) {
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
	p.awaitMessage("x", `<img src="x" onerror="alert(1)">`)
	p.WaitFor("the limit of entries", `document.querySelectorAll("#timeline > *").length === 500`)
	p.WaitFor("the newest message", `(({scrollTop, clientHeight, scrollHeight}) =>
		scrollTop + clientHeight > scrollHeight - 48)(document.querySelector("#timeline"))`)
}

// ------------------------------------------------------------ the command

// site is a running command.
type site struct {
	t       *testing.T
	profile *browser.Profile
	command string
	addr    string
	data    string // file for history and inboxes, used if durable
	durable bool
	running *exec.Cmd
}

// buildCommand compiles the command.
func buildCommand(t *testing.T) string {
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
	}, s.profile.Timeout(), 20*time.Millisecond, "the command does not answer")
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

// awaitConnections waits until the server has n connections.
func (s *site) awaitConnections(n int) {
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
	}, s.profile.Timeout(), 20*time.Millisecond, "connections: want %d", n)
}

func (s *site) open(path string) *tab {
	return &tab{s.profile.Open(s.t, "http://"+s.addr+path), s.t}
}

// openRoom opens the page as a user and waits until the user is in the room.
func (s *site) openRoom(user, room string) *tab {
	p := s.open("/?" + url.Values{"name": {user}, "room": {room}}.Encode())
	p.awaitState("open")
	p.awaitRoom(room)
	return p
}

// ------------------------------------------------------------ a fake server

// fakeServer serves the page and a WebSocket endpoint. The endpoint refuses the handshake if
// refused is set. Otherwise it sends a welcome, calls opened with the n-th connection, and keeps
// the connection open.
type fakeServer struct {
	refused  func(http.ResponseWriter)
	opened   func(n int64, c *websocket.Conn)
	requests atomic.Int64
}

// open opens the page in a tab.
func (f *fakeServer) open(t *testing.T, profile *browser.Profile) *tab {
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

func (f *fakeServer) serve(w http.ResponseWriter, r *http.Request) {
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
	for err == nil { // until the page closes the connection
		_, _, err = c.Read(context.Background())
	}
}

// awaitRequests waits for the n-th request.
func (f *fakeServer) awaitRequests(t *testing.T, profile *browser.Profile, n int64) {
	require.Eventually(t, func() bool { return f.requests.Load() >= n }, profile.Timeout(), 10*time.Millisecond,
		"sockets: want %d", n)
}

// tab is a tab of the browser with the chat page.
type tab struct {
	*browser.Tab
	t *testing.T
}

// send types a message and sends it.
func (p *tab) send(text string) {
	p.t.Helper()
	p.Type("#message", text)
	p.Click("#send")
}

// awaitState waits until the connection has a state.
func (p *tab) awaitState(name string) {
	p.t.Helper()
	p.WaitFor(name, fmt.Sprintf(`document.querySelector("#status").dataset.state === %q`, name))
}

func (p *tab) awaitRoom(room string) {
	p.t.Helper()
	p.WaitFor("room "+room, fmt.Sprintf(`document.querySelector("#room").dataset.room === %q`, room))
}

// awaitMembers waits until the list shows exactly these users.
func (p *tab) awaitMembers(names ...string) {
	p.t.Helper()
	want := strings.Join(names, " ")
	p.WaitFor("people "+want, fmt.Sprintf(`[...document.querySelectorAll("#people [data-user]")]
		.map((e) => e.dataset.user).join(" ") === %q`, want))
}

// awaitMessage waits for a message.
func (p *tab) awaitMessage(from, text string) {
	p.t.Helper()
	p.WaitFor(from+": "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .chat-line")]
		.some((e) => e.dataset.from === %q && e.querySelector(".text").textContent === %q)`, from, text))
}

// awaitNotice waits for a notice.
func (p *tab) awaitNotice(text string) {
	p.t.Helper()
	p.WaitFor("notice "+text, fmt.Sprintf(`[...document.querySelectorAll("#timeline .note")]
		.some((e) => e.textContent.includes(%q))`, text))
}

// awaitHistory waits until the timeline shows the bot's messages from first to last, once and in
// order, and no others of the bot.
func (p *tab) awaitHistory(from string, first, last int) {
	p.t.Helper()
	p.WaitFor(fmt.Sprint("no ", first, " to ", last), fmt.Sprintf(`[...document.querySelectorAll(
		"#timeline .chat-line[data-from=%s] .text")].map((e) => e.textContent).join(" ") ===
		Array.from({ length: %d }, (_, i) => "no " + (i + %d) + ".").join(" ")`, from, last-first+1, first))
}

// requireAbsent checks that a text is not in the timeline.
func (p *tab) requireAbsent(text string) {
	p.t.Helper()
	require.NotContains(p.t, p.Eval(`document.querySelector("#timeline").textContent`), text)
}

// requireFits checks that nothing is wider than the screen.
func (p *tab) requireFits() {
	p.t.Helper()
	require.Equal(p.t, "", p.Eval(`[...document.querySelectorAll("body, body *")]
		.filter((e) => e.checkVisibility() && !e.closest("#people")
			&& getComputedStyle(e).position !== "absolute"
			&& e.getBoundingClientRect().right > innerWidth)
		.map((e) => e.outerHTML.slice(0, 80)).join("\n")`), "wider than the screen")
	require.Equal(p.t, "true", p.Eval(`String([document.documentElement,
		document.querySelector("#timeline")].every((e) => e.scrollWidth <= e.clientWidth))`))
}

// pressTabUntil presses the tab key until a condition holds.
func (p *tab) pressTabUntil(condition string) {
	p.t.Helper()
	for range 30 {
		if p.Eval(`String(`+condition+`)`) == "true" {
			return
		}
		p.Keys(kb.Tab)
	}
	require.Fail(p.t, "the keyboard cannot reach it", condition)
}
