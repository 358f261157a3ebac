package redis_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy passes connections on to a server. It can cut and stop them, and swallow what the server
// passes on.
type proxy struct {
	l  net.Listener
	to string

	mu      sync.Mutex
	refuses bool
	mute    bool
	stopped chan struct{} // not nil: nothing passes until it is closed
	conns   map[net.Conn]bool
	servers map[net.Conn]bool // sides of the server that stay, see strand
	work    sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, to: to, conns: map[net.Conn]bool{}, servers: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.resume()
		_ = l.Close()
		p.cut(true)
		p.work.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		if err != nil || !p.add(c, s) {
			_ = c.Close()
			if s != nil {
				_ = s.Close()
			}
			continue
		}
		p.work.Go(func() { p.pass(c, s, some) })
		p.work.Go(func() { p.pass(s, c, p.reply) })
	}
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

// pass passes on what read returns, until there is an error.
func (p *proxy) pass(from, to net.Conn, read func(r *bufio.Reader) ([]byte, error)) {
	defer p.close(from)
	defer p.close(to)
	r, w := bufio.NewReaderSize(from, 64<<10), bufio.NewWriterSize(to, 64<<10)
	for {
		data, err := read(r)
		p.mu.Lock()
		stopped := p.stopped
		p.mu.Unlock()
		if stopped != nil {
			<-stopped
		}
		_, _ = w.Write(data)
		if r.Buffered() == 0 {
			_ = w.Flush() // if it fails, the next read does
		}
		if err != nil {
			return
		}
	}
}

// some reads what there is.
func some(r *bufio.Reader) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	data := make([]byte, r.Buffered())
	_, err := io.ReadFull(r, data)
	return data, err
}

// reply reads a reply of the server. It returns nothing for a message of a channel while the proxy
// is mute.
func (p *proxy) reply(r *bufio.Reader) ([]byte, error) {
	data, err := appendReply(nil, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute && bytes.HasPrefix(data, []byte(">3\r\n$8\r\nsmessage\r\n")) {
		data = nil
	}
	return data, err
}

// appendReply appends a reply in the format RESP3 to data.
func appendReply(data []byte, r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	data = append(data, line...)
	if err != nil {
		return data, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:])) // some lines have no number
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return data, nil
		}
		begin := len(data)
		data = append(data, make([]byte, n+len("\r\n"))...)
		_, err = io.ReadFull(r, data[begin:])
		return data, err
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return data, nil
	}
	for range n {
		if data, err = appendReply(data, r); err != nil {
			return data, err
		}
	}
	return data, nil
}

// close closes a side of a connection, unless it stays.
func (p *proxy) close(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.servers[c] {
		_ = c.Close()
	}
}

// strand closes all connections so that the server does not notice it, as a broken line does.
func (p *proxy) strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.RemoteAddr().String() == p.to {
			p.servers[c] = true
			continue
		}
		_ = c.Close()
		delete(p.conns, c)
	}
}

// cut closes all connections, and refuses new ones or not.
func (p *proxy) cut(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = refuse
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// stop lets nothing pass, as if the server hung.
func (p *proxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped == nil {
		p.stopped = make(chan struct{})
	}
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped != nil {
		close(p.stopped)
		p.stopped = nil
	}
}

// silence swallows the messages of channels, or no longer.
func (p *proxy) silence(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
}
