// Package browser drives Chromium for the tests of the examples.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Browser is a running browser.
type Browser struct {
	ctx     context.Context
	timeout time.Duration
}

// timeoutFor returns how long a test waits for an event in a browser that took so long to start. The
// time of the start reflects the speed and the load of the machine.
func timeoutFor(start time.Duration) time.Duration {
	return min(max(30*time.Second, 30*start), 2*time.Minute)
}

// Start starts a browser that ends with the test, or skips the test.
func Start(t *testing.T) *Browser {
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
	began := time.Now()
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(browser))
	t.Cleanup(func() { _ = chromedp.Cancel(browser) }) // so that it is gone before its files
	return &Browser{browser, timeoutFor(time.Since(began))}
}

// Timeout returns how long a test waits for an event.
func (b *Browser) Timeout() time.Duration { return b.timeout }

// Profile is a context for tabs that share storage only with each other.
type Profile struct {
	*Browser
	ctx context.Context
}

// Profile returns a new profile.
func (b *Browser) Profile(t *testing.T) *Profile {
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return &Profile{b, ctx}
}

// Tab is one page in the browser. Its methods wait for the named condition, and fail the test if it
// does not occur.
type Tab struct {
	t       *testing.T
	ctx     context.Context
	cancel  context.CancelFunc
	timeout time.Duration
}

// Open opens a tab. An uncaught exception in the page fails the test.
func (b *Profile) Open(t *testing.T, address string) *Tab {
	ctx, cancel := chromedp.NewContext(b.ctx)
	p := &Tab{t: t, ctx: ctx, cancel: cancel, timeout: b.timeout}
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
		p.Close()
		<-read
		require.Empty(t, uncaught, "exceptions in the page")
	})
	p.Do(chromedp.Navigate(address))
	return p
}

// Reload loads the page again.
func (p *Tab) Reload() {
	p.t.Helper()
	p.Do(chromedp.Reload())
}

// Close closes the tab.
func (p *Tab) Close() { p.cancel() }

// Hide minimises the tab's window. Show restores it.
func (p *Tab) Hide() { p.window(cdpbrowser.WindowStateMinimized) }

// Show ends Hide.
func (p *Tab) Show() { p.window(cdpbrowser.WindowStateNormal) }

func (p *Tab) window(state cdpbrowser.WindowState) {
	p.t.Helper()
	p.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		res, err := cdp.Call(ctx, t, cdpbrowser.GetWindowForTarget, cdpbrowser.GetWindowForTargetParams{})
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, t, cdpbrowser.SetWindowBounds, cdpbrowser.SetWindowBoundsParams{
			WindowID: res.WindowID, Bounds: &cdpbrowser.Bounds{WindowState: state},
		})
		return err
	}))
}

// Do runs actions, one after another.
func (p *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, steps...))
}

// Eval returns the value of an expression in the page, which must be a string.
func (p *Tab) Eval(expression string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	require.NoError(p.t, err)
	return s
}

// Run runs a script in the page, and does not wait for a promise that it returns.
func (p *Tab) Run(script string) {
	p.t.Helper()
	p.Eval("(() => {" + script + "})(), ''")
}

// WaitFor waits until an expression in the page is true.
func (p *Tab) WaitFor(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout+time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression,
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(p.timeout)))
	if err != nil {
		require.NoError(p.t, err, "waiting for %s; the page shows:\n%s", what,
			p.Eval("document.body.innerText"))
	}
}

// Value returns the value of a field.
func (p *Tab) Value(css string) string {
	p.t.Helper()
	return p.Eval(fmt.Sprintf(`document.querySelector(%q).value`, css))
}

// Click clicks an element.
func (p *Tab) Click(css string) {
	p.t.Helper()
	p.Do(chromedp.Click(chromedp.CSS(css)))
}

// Type clicks a field and types. It does not use chromedp.SendKeys, which in v0.23.0 races with
// changes of the field's attributes.
func (p *Tab) Type(css, keys string) {
	p.t.Helper()
	p.Click(css)
	p.Keys(keys)
}

// Keys presses keys.
func (p *Tab) Keys(keys string) {
	p.t.Helper()
	p.Do(chromedp.KeyEvent(keys))
}
