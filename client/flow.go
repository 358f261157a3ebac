package client

import (
	"io"
	"sync"
	"time"
)

// portions is the number of writes of a frame, each of 4 KiB at most, that are no sign of life. The
// kernel buffers them even if the peer receives nothing.
const portions = 4

// flow is a socket that reports each successful read and write.
type flow struct {
	io.ReadWriteCloser
	came, went func()
}

// Read implements io.Reader.
func (f *flow) Read(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Read(p); n > 0 {
		f.came()
	}
	return n, err
}

// Write implements io.Writer.
func (f *flow) Write(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Write(p); n > 0 {
		f.went()
	}
	return n, err
}

// progress calls stuck if no byte of the frame that is being written has left for writeTime. A slow
// frame that makes progress may take any time. newProgress makes one.
type progress struct {
	timer *time.Timer
	stuck func()

	mu      sync.Mutex
	writing int
	wrote   int // portions since begin
	looked  int // value of wrote when the timer last ran
}

func newProgress(stuck func()) *progress {
	p := &progress{stuck: stuck}
	p.mu.Lock() // look must not run before p.timer is set
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(writeTime, p.look)
	p.timer.Stop()
	return p
}

// begin watches a frame until the returned function is called.
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

// went counts a portion. It reports whether the peer must have received an earlier one.
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
