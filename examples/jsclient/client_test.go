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

// site serves the page.
type site struct {
	*httptest.Server
	rt *realtime.Manager
}

func serve(t *testing.T) *site {
	return serveWith(t, realtime.Options{Announce: realtime.AnnounceRooms})
}

func serveWith(t *testing.T, o realtime.Options) *site {
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

// The short form has no network in it that fails.
func TestClientInBrowser(t *testing.T) {
	chromium := browser.Start(t)
	tests := map[string]func(*testing.T, *browser.Profile){
		"reload":         testReload,
		"mounted twice":  testMountedTwice,
		"foreign origin": testForeignOrigin,
	}
	if long.Enabled() {
		tests["network gone for 20 s"] = testGone
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

func open(t *testing.T, profile *browser.Profile, addr, name string) *browser.Tab {
	p := profile.Open(t, "http://"+addr+"/?name="+name)
	p.Waits("in the room", `window.room?.joined`)
	return p
}

// Neither side has given up after 20 s, so nothing is lost.
func testGone(t *testing.T, profile *browser.Profile) {
	s := serve(t)
	network := flaky.New(t, s.addr())
	alice, bob := open(t, profile, network.Addr, "alice"), open(t, profile, s.addr(), "bob")
	network.Drop()
	alice.Run(`count(0, 50)`)
	bob.Run(`count(100, 150)`)
	time.Sleep(20 * time.Second) // the time is what is tested
	network.Restore()
	for _, p := range []*browser.Tab{alice, bob} {
		p.Waits("all", `said.length === 100`)
		p.Waits("the open connection", `client.status.state === "open"`)
	}
	alice.Waits("its own in order", `said.filter((n) => n < 100).join() === [...Array(50).keys()].join()`)
	require.Equal(t, "", alice.Eval(`failures.join()`))
}

// A thousand messages go from one connection that is cut again and again to another one.
// Nothing is doubled or reordered, all are accepted, and nothing is missing without a gap.
func testFlapping(t *testing.T, profile *browser.Profile) {
	const messages = 1000
	s := serve(t)
	up, down := flaky.New(t, s.addr()), flaky.New(t, s.addr())
	alice, bob := open(t, profile, up.Addr, "alice&eager"), open(t, profile, down.Addr, "bob&eager")
	witness, err := client.Dial(t.Context(), s.URL+"/ws?user_id=witness", nil)
	require.NoError(t, err)
	defer witness.Close()
	require.NoError(t, witness.Join(t.Context(), "lobby"))

	alice.Run(fmt.Sprintf(`count(0, %d)`, messages))
	seen := 0
	for msg, err := range witness.Messages() {
		require.NoError(t, err)
		if msg.Type != "n" {
			continue
		}
		require.Equal(t, fmt.Sprint(seen), string(msg.Content), "who is not cut gets each once, in order")
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
	alice.Waits("all are accepted", fmt.Sprintf(`window.counted === %d`, messages))
	require.Equal(t, "", alice.Eval(`failures.join()`))
	bob.Waits("the connection", `room.joined`)
	alice.Run(`room.send("n", 1000)`)
	bob.Waits("the last", `said.at(-1) === 1000`)
	requireHonest(t, alice, 3)
	requireHonest(t, bob, 3)
}

// requireHonest checks that numbers only grow, and that each gap in them was told.
func requireHonest(t *testing.T, p *browser.Tab, atLeast int) {
	t.Helper()
	var said []any
	require.NoError(t, json.Unmarshal([]byte(p.Eval(`JSON.stringify(said)`)), &said))
	last, told, gaps := -1.0, false, 0
	for _, entry := range said {
		n, ok := entry.(float64)
		if !ok {
			told = true
			gaps++
			continue
		}
		require.Greater(t, n, last, "doubled or reordered: %v", said)
		if n > last+1 {
			require.True(t, told, "%v is behind %v, and nobody said so", n, last)
		}
		last, told = n, false
	}
	require.GreaterOrEqual(t, gaps, atLeast, "it was cut more often")
}

func testReload(t *testing.T, profile *browser.Profile) {
	s := serve(t)
	alice := open(t, profile, s.addr(), "alice")
	bob := open(t, profile, s.addr(), "bob")
	for range 3 {
		alice.Reload()
		alice.Waits("the room again", `window.room?.joined`)
	}
	alice.Run(`count(0, 10)`)
	bob.Waits("all", `said.length === 10`)
	bob.Waits("both of them once", `room.members.join() === "alice,bob"`)
	require.Eventually(t, func() bool { return s.rt.Stats().Conns == 2 }, profile.Patience(), 10*time.Millisecond)
}

// What React's strict mode does: mount, unmount, mount.
func testMountedTwice(t *testing.T, profile *browser.Profile) {
	s := serve(t)
	p := profile.Open(t, "http://"+s.addr()+"/?name=alice&idle")
	p.Waits("the page", `window.ready`)
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
	p.Waits("in the room", `room.joined`)
	p.Run(`room.send("n", 1).then(() => window.accepted = true)`)
	p.Waits("once", `window.accepted && said.join() === "1"`)
	require.EqualValues(t, 1, s.rt.Stats().PeakConns, "it connected once")
	p.Run(`unmount()`)
	require.Eventually(t, func() bool { return s.rt.Stats().Conns == 0 }, profile.Patience(), 10*time.Millisecond)
}

// A page in the background, whose timers browsers slow down, gets what comes, and one that was
// cut there comes back.
func testBackground(t *testing.T, profile *browser.Profile) {
	s := serve(t)
	network := flaky.New(t, s.addr())
	alice := open(t, profile, network.Addr, "alice")
	bob := open(t, profile, s.addr(), "bob")
	alice.Hide()
	alice.Waits("hidden", `document.hidden`)
	bob.Run(`count(0, 10)`)
	alice.Waits("all", `said.length === 10`)
	network.Cut()
	alice.Waits("the connection", `states.at(-1) === "open" && states.length > 3 && room.joined`)
	bob.Run(`count(10, 20)`)
	alice.Waits("all", `said.at(-1) === 19`)
	alice.Show()
	alice.Waits("visible", `!document.hidden`)
}

// A page of another origin is told what is to be done about it.
func testForeignOrigin(t *testing.T, profile *browser.Profile) {
	s, other := serve(t), serve(t)
	p := profile.Open(t, s.URL+"/?name=alice&idle")
	p.Waits("the page", `window.ready`)
	p.Run(`window.client = connect("` + other.URL + `/ws?user_id=alice")`)
	p.Waits("the end", `client.status.state === "closed"`)
	require.Equal(t, `origin "`+s.URL+`" is not allowed: add it to Options.Origins`, p.Eval(`client.status.reason`))
}
