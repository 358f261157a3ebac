package jsclient

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/examples/internal/flaky"
	"github.com/realtime-go/realtime/internal/long"
)

//go:embed page.html
var page []byte

// site is a server with a Manager and the page.
type site struct {
	*httptest.Server
	rt *realtime.Manager
}

func startSite(t *testing.T) *site {
	return startSiteWith(t, realtime.Options{Show: realtime.ShowMembers, CompressFrom: 100})
}

func startSiteWith(t *testing.T, o realtime.Options) *site {
	o.Authenticate, o.Authorize = realtime.InsecureQueryUser, realtime.InsecureAllowAll
	rt := realtime.New(&o)
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/realtime.js", rt.ClientJS())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	s := &site{httptest.NewServer(mux), rt}
	t.Cleanup(s.Close)
	t.Cleanup(func() { _ = rt.Close() })
	return s
}

func (s *site) addr() string { return strings.TrimPrefix(s.URL, "http://") }

// TestClientInBrowser tests the client in a browser. The short form has no failing network.
func TestClientInBrowser(t *testing.T) {
	chromium := browser.Start(t)
	tests := map[string]func(*testing.T, *browser.Profile){
		"reload":         testReload,
		"mounted twice":  testMountedTwice,
		"foreign origin": testForeignOrigin,
	}
	if long.Enabled() {
		tests["network gone for 20 s"] = testNetworkGone
		tests["flapping"] = testFlapping
		tests["background"] = testBackground
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, chromium.Profile(t))
		})
	}
}

func openPage(t *testing.T, profile *browser.Profile, addr, name string) *browser.Tab {
	p := profile.Open(t, "http://"+addr+"/?name="+name)
	p.WaitFor("in the room", `window.room?.joined`)
	return p
}

// testNetworkGone interrupts the network for 20 s. Neither side has given up by then, so no message
// is lost.
func testNetworkGone(t *testing.T, profile *browser.Profile) {
	s := startSite(t)
	network := flaky.New(t, s.addr())
	alice, bob := openPage(t, profile, network.Addr, "alice"), openPage(t, profile, s.addr(), "bob")
	network.Drop()
	alice.Run(`count(0, 50)`)
	bob.Run(`count(100, 150)`)
	time.Sleep(20 * time.Second) // the duration of the interruption is tested
	network.Restore()
	for _, p := range []*browser.Tab{alice, bob} {
		p.WaitFor("all messages", `said.length === 100`)
		p.WaitFor("the open connection", `client.status.state === "open"`)
	}
	alice.WaitFor("its own messages in order", `said.filter((n) => n < 100).join() === [...Array(50).keys()].join()`)
	require.Equal(t, "", alice.Eval(`failures.join()`))
}

// testFlapping sends 1,000 messages while the connections of the sender and of a receiver are cut
// again and again. All messages are accepted, none is delivered twice or out of order, and every
// missing message is covered by a gap.
func testFlapping(t *testing.T, profile *browser.Profile) {
	const messages = 1000
	s := startSite(t)
	up, down := flaky.New(t, s.addr()), flaky.New(t, s.addr())
	alice, bob := openPage(t, profile, up.Addr, "alice&eager"), openPage(t, profile, down.Addr, "bob&eager")
	reader, err := client.Dial(t.Context(), s.URL+"/ws?user_id=reader", nil)
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, reader.Join(t.Context(), "lobby"))

	alice.Run(fmt.Sprintf(`count(0, %d)`, messages))
	seen := 0
	for msg, err := range reader.Messages() {
		require.NoError(t, err)
		if msg.Type != "n" {
			continue
		}
		require.Equal(t, fmt.Sprint(seen), string(msg.Content), "a stable connection receives each message once and in order")
		if seen++; seen == messages {
			break
		}
		if seen%100 == 0 {
			up.Cut()
		}
		if seen%70 == 0 {
			down.Cut()
		}
	}
	alice.WaitFor("all receipts", fmt.Sprintf(`window.counted === %d`, messages))
	require.Equal(t, "", alice.Eval(`failures.join()`))
	bob.WaitFor("the connection", `room.joined`)
	alice.Run(`room.send("n", 1000)`)
	bob.WaitFor("the last message", `said.at(-1) === 1000`)
	requireGapsReported(t, alice, 3)
	requireGapsReported(t, bob, 3)
}

// requireGapsReported checks that numbers only grow, and that every gap in them was reported.
func requireGapsReported(t *testing.T, p *browser.Tab, atLeast int) {
	t.Helper()
	var received []any
	require.NoError(t, json.Unmarshal([]byte(p.Eval(`JSON.stringify(said)`)), &received))
	last, reported, gaps := -1.0, false, 0
	for _, entry := range received {
		n, ok := entry.(float64)
		if !ok {
			reported = true
			gaps++
			continue
		}
		require.Greater(t, n, last, "duplicate or out of order: %v", received)
		if n > last+1 {
			require.True(t, reported, "no gap was reported before %v, after %v", n, last)
		}
		last, reported = n, false
	}
	require.GreaterOrEqual(t, gaps, atLeast, "the connection was cut more often")
}

// testReload reloads a page again and again. Another page sees nothing of it.
func testReload(t *testing.T, profile *browser.Profile) {
	s := startSite(t)
	alice := openPage(t, profile, s.addr(), "alice")
	bob := openPage(t, profile, s.addr(), "bob")
	bob.WaitFor("alice", `seen.join() === "+alice,+bob" || seen.join() === "+bob,+alice"`)
	for range long.Of(5, 50, 50) {
		alice.Reload()
		alice.WaitFor("the room again", `window.room?.joined`)
	}
	alice.Run(`count(0, 10)`)
	bob.WaitFor("all messages", `said.length === 10`)
	bob.WaitFor("each user once", `room.presence.users().map(({ user }) => user).join() === "alice,bob"`)
	require.Equal(t, "2", bob.Eval(`String(seen.length)`), "nobody has joined or left since")
	require.Eventually(t, func() bool { return s.rt.Stats().Conns == 2 }, profile.Timeout(), 10*time.Millisecond)
}

// testMountedTwice mounts, unmounts and mounts a component, like React's strict mode.
func testMountedTwice(t *testing.T, profile *browser.Profile) {
	s := startSite(t)
	p := profile.Open(t, "http://"+s.addr()+"/?name=alice&idle")
	p.WaitFor("the page", `window.ready`)
	p.Run(`
		const mount = () => {
			const client = connect(url)
			const room = client.join("lobby")
			const off = room.on("n", (n) => said.push(n))
			window.room = room
			return () => { off(); room.leave(); client.close() }
		}
		const unmount = mount()
		unmount()
		window.unmount = mount()
		mount()()
	`)
	p.WaitFor("in the room", `room.joined`)
	p.Run(`room.send("n", 1).then(() => window.accepted = true)`)
	p.WaitFor("one message", `window.accepted && said.join() === "1"`)
	require.EqualValues(t, 1, s.rt.Stats().PeakConns, "number of connections")
	p.Run(`unmount()`)
	require.Eventually(t, func() bool { return s.rt.Stats().Conns == 0 }, profile.Timeout(), 10*time.Millisecond)
}

// testBackground tests that a page in the background, whose timers browsers slow down, receives
// messages and reconnects.
func testBackground(t *testing.T, profile *browser.Profile) {
	s := startSite(t)
	network := flaky.New(t, s.addr())
	alice := openPage(t, profile, network.Addr, "alice")
	bob := openPage(t, profile, s.addr(), "bob")
	alice.Hide()
	alice.WaitFor("hidden", `document.hidden`)
	bob.Run(`count(0, 10)`)
	alice.WaitFor("all messages", `said.length === 10`)
	network.Cut()
	alice.WaitFor("the connection", `states.at(-1) === "open" && states.length > 3 && room.joined`)
	bob.Run(`count(10, 20)`)
	alice.WaitFor("all messages", `said.at(-1) === 19`)
	alice.Show()
	alice.WaitFor("visible", `!document.hidden`)
}

// testForeignOrigin tests that a page of another origin gets a reason that says what to do.
func testForeignOrigin(t *testing.T, profile *browser.Profile) {
	s, other := startSite(t), startSite(t)
	p := profile.Open(t, s.URL+"/?name=alice&idle")
	p.WaitFor("the page", `window.ready`)
	p.Run(`window.client = connect("` + other.URL + `/ws?user_id=alice")`)
	p.WaitFor("the end", `client.status.state === "closed"`)
	require.Equal(t, `origin "`+s.URL+`" is not allowed: add it to Options.Origins`, p.Eval(`client.status.reason`))
}
