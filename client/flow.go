package client

import (
	"io"
	"sync"
	"time"
)

// portions is how many writes of a frame are no sign of life yet: what the kernel takes of a small
// frame says nothing about the peer. Each is of 4 KiB at most.
const portions = 4

// flow is a socket that says when something has come through or gone.
type flow struct {
	io.ReadWriteCloser
	came, went func()
}

// Read is io.Reader.
func (f *flow) Read(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Read(p); n > 0 {
		f.came()
	}
	return n, err
}

// Write is io.Writer.
func (f *flow) Write(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Write(p); n > 0 {
		f.went()
	}
	return n, err
}

// progress ends a frame that is being written and of which nothing goes any more, however long it
// takes as a whole. newProgress makes one.
type progress struct {
	timer *time.Timer
	stuck func()

	mu      sync.Mutex
	writing int
	wrote   int // portions since begin
	looked  int // wrote, when the timer ran last
}

func newProgress(stuck func()) *progress {
	p := &progress{stuck: stuck}
	p.mu.Lock() // the timer must not run before it is here
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(writeTime, p.look)
	p.timer.Stop()
	return p
}

// begin begins to watch a frame, until the returned function is called.
func (p *progress) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing++
	p.wrote, p.looked = 0, 0
	p.timer.Reset(writeTime)
	return p.end
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writing--; p.writing == 0 {
		p.timer.Stop()
	}
}

// went notes a portion, and reports whether the peer must have taken one before.
func (p *progress) went() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrote++
	return p.writing > 0 && p.wrote > portions
}

func (p *progress) look() {
	p.mu.Lock()
	stuck := p.writing > 0 && p.wrote == p.looked
	if p.looked = p.wrote; p.writing > 0 && !stuck {
		p.timer.Reset(writeTime)
	}
	p.mu.Unlock()
	if stuck {
		p.stuck()
	}
}
