package migrate

import (
	_ "embed"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/internal/long"
	"github.com/realtime-go/realtime/realtimetest"
)

func TestMigrated(t *testing.T) {
	for name, test := range map[string]struct {
		make func() (*realtime.Manager, http.Handler)
		echo bool // the sender receives its own message
	}{
		"gorilla": {fromGorilla, true},
		"melody":  {fromMelody, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt, h := test.make()
				t.Cleanup(func() { _ = rt.Close() })
				srv := realtimetest.Serve(t, h)
				a, b := srv.Dial("/ws", nil), srv.Dial("/ws", nil)
				a.Send(realtime.ToAll(), "chat", "hi")
				require.Equal(t, "hi", realtimetest.Expect[string](b, "chat"))
				if test.echo {
					a.Expect("chat")
				}
				a.ExpectNone("chat")
				_, err := srv.TryDial("/nowhere", &client.DialOptions{})
				require.Error(t, err)
			})
		})
	}
}

//go:embed home.html
var home []byte

// TestMigratedPage tests a page like the one of gorilla's example, with two lines changed.
func TestMigratedPage(t *testing.T) {
	long.Only(t, "it needs a browser of its own")
	chromium := browser.Start(t)
	rt, h := fromGorilla()
	defer rt.Close()
	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(home) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	profile := chromium.Profile(t)
	a, b := profile.Open(t, srv.URL), profile.Open(t, srv.URL)
	for _, p := range []*browser.Tab{a, b} {
		p.WaitFor("the connection", `conn.readyState === WebSocket.OPEN`)
	}
	a.Type("#msg", "hello"+kb.Enter)
	for _, p := range []*browser.Tab{a, b} {
		p.WaitFor("the message", `document.querySelector("#log").innerText.trim() === "hello"`)
	}
}
