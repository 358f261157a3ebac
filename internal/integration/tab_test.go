package integration_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// tab is a web page that speaks realtime.v1 over a socket in memory. A goroutine reads it.
type tab struct {
	t        *testing.T
	nc       net.Conn
	user     string
	key      string // see presence_key
	id       string // of the connection
	session  string
	mu       sync.Mutex
	received []string
	ended    bool
}

// tabs are Options for web pages.
func tabs(o realtime.Options) realtime.Options {
	o.Authenticate = realtime.InsecureQueryUser
	o.Limits.HandshakeRate, o.Limits.HandshakeRatePerIP, o.Limits.ConnsPerIP = -1, -1, -1
	return o
}

// openTab connects a page. key may be empty.
func (b *bed) openTab(user, key string) *tab {
	b.t.Helper()
	p, status := b.tryTab(user, key)
	require.Equal(b.t, http.StatusSwitchingProtocols, status)
	return p
}

// tryTab is openTab that may fail. It returns the status of the answer.
func (b *bed) tryTab(user, key string) (*tab, int) {
	b.t.Helper()
	r := upgradeRequest(false)
	q := r.URL.Query()
	q.Set("user_id", user)
	if key != "" {
		q.Set("presence_key", key)
	}
	r.URL.RawQuery = q.Encode()
	r.Header.Set("Sec-WebSocket-Protocol", realtime.V1)
	near, far := net.Pipe()
	w := httptest.NewRecorder()
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.ServeHTTP(hijackable{w, near, ""}, r)
	}()
	p := &tab{t: b.t, nc: far, user: user, key: key}
	br := bufio.NewReader(far)
	type answer struct {
		res *http.Response
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		res, err := http.ReadResponse(br, r)
		answered <- answer{res, err}
	}()
	select {
	case <-served: // refused, or upgraded
	case a := <-answered:
		require.NoError(b.t, a.err)
		answered <- a
	}
	synctest.Wait()
	select {
	case a := <-answered:
		require.NoError(b.t, a.err)
		require.Equal(b.t, http.StatusSwitchingProtocols, a.res.StatusCode)
	default:
		_ = far.Close()
		<-answered
		return nil, w.Code
	}
	b.t.Cleanup(func() { _ = far.Close() })
	go p.read(br)
	var f struct {
		Content struct {
			Conn    string `json:"connection_id"`
			Session string `json:"session"`
		}
	}
	require.NoError(b.t, json.Unmarshal([]byte(p.frames()[0]), &f))
	p.id, p.session = f.Content.Conn, f.Content.Session
	return p, http.StatusSwitchingProtocols
}

func (p *tab) read(br *bufio.Reader) {
	for {
		op, payload, err := nextFrame(br)
		if err == nil && op&0x0F == 0x9 {
			go func() { _, _ = p.nc.Write([]byte(masked(0x8A, payload))) }()
			continue
		}
		p.mu.Lock()
		if err != nil || op&0x0F == 0x8 {
			p.ended = true
			p.mu.Unlock()
			_ = p.nc.Close()
			return
		}
		p.received = append(p.received, payload)
		p.mu.Unlock()
	}
}

// frames waits until everything is at rest and returns the frames since the last call.
func (p *tab) frames() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	frames := p.received
	p.received = nil
	return frames
}

func (p *tab) isOpen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

// send sends a text, unless the connection has ended.
func (p *tab) send(text string) { p.sendFrame(0x81, text) }

// ask sends a request and returns the frames that follow.
func (p *tab) ask(request string) []string {
	p.t.Helper()
	p.send(request)
	return p.frames()
}

// watch joins the hall and asks for presence.
func (p *tab) watch(f *fold, more string) {
	p.t.Helper()
	for _, raw := range p.ask(`{"type":"join","id":1,"room":"hall","presence":true` + more + `}`) {
		require.NotContains(p.t, raw, `"error"`)
		f.add([]byte(raw))
	}
}

// reload ends the connection as a page does that is closed or reloaded.
func (p *tab) reload() {
	code := binary.BigEndian.AppendUint16(nil, uint16(realtime.CloseAway))
	p.sendFrame(0x88, string(code))
	_ = p.nc.Close()
	synctest.Wait()
}

func (p *tab) sendFrame(head byte, payload string) { _, _ = p.nc.Write([]byte(masked(head, payload))) }

// cut ends the connection without a word.
func (p *tab) cut() {
	_ = p.nc.Close()
	synctest.Wait()
}

// drain applies what a page has received.
func (p *tab) drain(f *fold) *fold {
	p.t.Helper()
	for _, raw := range p.frames() {
		f.add([]byte(raw))
	}
	return f
}

// seen says how many state frames have arrived.
func (p *tab) seen(f *fold) { p.send(fmt.Sprintf(`{"type":"seen","frames":%d}`, f.frames)) }

func isError(frames []string) bool {
	return strings.Contains(strings.Join(frames, ""), `"message_type":"error"`)
}
