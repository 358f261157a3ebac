package client

import (
	"io"
	"sync"
	"time"
)

// bufferedWrites is the number of writes of a frame, each of 4 KiB at most, that are no sign of
// life. The kernel buffers them even if the peer receives nothing.
const bufferedWrites = 4

// observedSocket is a socket that reports each successful read and write.
type observedSocket struct {
	io.ReadWriteCloser
	onRead, onWrite func()
}

// Read implements io.Reader.
func (f *observedSocket) Read(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Read(p); n > 0 {
		f.onRead()
	}
	return n, err
}

// Write implements io.Writer.
func (f *observedSocket) Write(p []byte) (n int, err error) {
	if n, err = f.ReadWriteCloser.Write(p); n > 0 {
		f.onWrite()
	}
	return n, err
}

// writeProgress calls onStuck if no byte of the frame that is being written has left for
// writeTimeout. A slow frame that makes progress may take any time. newWriteProgress makes one.
type writeProgress struct {
	timer   *time.Timer
	onStuck func()

	mu            sync.Mutex
	writing       int
	writes        int // since begin
	checkedWrites int // value of writes when the timer last ran
}

func newWriteProgress(stuck func()) *writeProgress {
	p := &writeProgress{onStuck: stuck}
	p.mu.Lock() // check must not run before p.timer is set
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(writeTimeout, p.check)
	p.timer.Stop()
	return p
}

// begin watches a frame until the returned function is called.
func (p *writeProgress) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing++
	p.writes, p.checkedWrites = 0, 0
	p.timer.Reset(writeTimeout)
	return p.end
}

func (p *writeProgress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writing--; p.writing == 0 {
		p.timer.Stop()
	}
}

// noteWrite counts a write. It reports whether the peer must have received an earlier one.
func (p *writeProgress) noteWrite() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	return p.writing > 0 && p.writes > bufferedWrites
}

func (p *writeProgress) check() {
	p.mu.Lock()
	stuck := p.writing > 0 && p.writes == p.checkedWrites
	if p.checkedWrites = p.writes; p.writing > 0 && !stuck {
		p.timer.Reset(writeTimeout)
	}
	p.mu.Unlock()
	if stuck {
		p.onStuck()
	}
}
