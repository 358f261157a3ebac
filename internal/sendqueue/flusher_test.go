package sendqueue

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
	"github.com/realtime-go/realtime/internal/tcptest"
)

// rawWire is a testWire with a socket in memory. The script decides how much a write accepts.
type rawWire struct {
	*testWire
	fd     uintptr
	script func(p []byte) (int, error) // nil: accepts everything
}

func (w *rawWire) RawConn() syscall.RawConn { return w }

// Write implements syscall.RawConn. sendqueue.Wire needs another signature, see asWire.
func (w *rawWire) Write(f func(uintptr) bool) error {
	w.mu.Lock()
	late, closed := !w.deadline.IsZero() && !time.Now().Before(w.deadline), w.closed
	w.mu.Unlock()
	switch {
	case closed:
		return os.ErrClosed
	case late:
		return os.ErrDeadlineExceeded // like the poller of the runtime
	}
	f(w.fd)
	return nil
}

func (w *rawWire) Read(func(uintptr) bool) error { return errors.ErrUnsupported }
func (w *rawWire) Control(func(uintptr)) error   { return nil }

// sys replaces the system call.
func (w *rawWire) sys(_ uintptr, p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := len(p), error(nil)
	if w.script != nil {
		n, err = w.script(p)
	}
	if err == nil {
		w.wire = append(w.wire, p[:n]...)
		w.writes++
	}
	return n, err
}

// asWire is a rawWire with the Write of a Wire.
type asWire struct {
	*testWire
	raw *rawWire
}

func (w asWire) RawConn() syscall.RawConn { return w.raw }

// newRawRig returns a rig with a flusher.
func newRawRig(t *testing.T, cfg Config, script func([]byte) (int, error)) *rig {
	wire := newTestWire()
	raw := &rawWire{testWire: wire, script: script}
	var wg sync.WaitGroup
	fs := NewFlushers(wg.Go)
	fs.write = raw.sys
	cfg.Flushers = fs
	r := newRigOn(t, cfg, wire, asWire{wire, raw})
	t.Cleanup(func() {
		fs.Close()
		wg.Wait()
	})
	return r
}

// payloads returns the payloads on the wire.
func (w *testWire) payloads(t *testing.T) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	words, rest := parseFrames(w.wire)
	require.Empty(t, rest, "half a frame")
	return strings.Join(words, " ")
}

// parseFrames is a simple decoder of server frames.
func parseFrames(p []byte) (words []string, rest []byte) {
	for len(p) >= 2 {
		n, head := int(p[1]), 2
		switch {
		case n == 126 && len(p) >= 4:
			n, head = int(binary.BigEndian.Uint16(p[2:])), 4
		case n == 127 && len(p) >= 10:
			n, head = int(binary.BigEndian.Uint64(p[2:])), 10
		}
		if len(p) < head+n {
			break
		}
		word := string(p[head : head+n])
		if Op(p[0]&0x0F) == OpClose {
			word = "close"
		}
		words = append(words, word)
		p = p[head+n:]
	}
	return words, p
}

func TestFlusherJoinsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRawRig(t, Config{}, nil)
		r.say("a", "b")
		synctest.Wait()
		require.Empty(t, r.wire.payloads(t), "before Start")
		r.Start()
		synctest.Wait()
		r.say("c")
		r.say("d")
		synctest.Wait()
		require.Equal(t, "a b c d", r.wire.payloads(t))
		require.LessOrEqual(t, r.wire.writes, 3)
		require.EqualValues(t, 1, r.totals.Direct.Load())
		r.Close(CloseFrame(1000, "bye"), time.Second)
		r.ReadEnded()
		<-r.Done()
		require.Equal(t, "a b c d close", r.wire.payloads(t))
		require.Zero(t, r.totals.Direct.Load())
	})
}

// The socket accepts half a frame and is full. Nothing may be written inside that frame. At the
// end, the flusher writes to the queue again.
func TestFlusherSwitchesToOwnerWhenTheSocketIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := false
		r := newRawRig(t, Config{WriteTimeout: time.Second}, func(p []byte) (int, error) {
			if full {
				full = false
				return len(p) / 2, nil
			}
			return len(p), nil
		})
		r.Start()
		r.wire.stall(true) // blocks the goroutine that owns the wire
		full = true
		r.say("half of this")
		synctest.Wait()
		r.Ping(NewFrame(OpPing, []byte("ping")))
		r.say("later")
		synctest.Wait()
		words, rest := parseFrames(r.wire.wire)
		require.Empty(t, words)
		require.NotEmpty(t, rest)
		r.wire.stall(false)
		synctest.Wait()
		require.Equal(t, "half of this ping later", r.wire.payloads(t))

		time.Sleep(time.Minute) // the deadline of the blocking writes has passed
		r.say("and raw again")
		synctest.Wait()
		require.Equal(t, "half of this ping later and raw again", r.wire.payloads(t))
		require.Empty(t, r.failed)
	})
}

func TestFlusherErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRawRig(t, Config{}, func([]byte) (int, error) { return 0, syscall.ECONNRESET })
		r.Start()
		r.say("a", "b")
		<-r.Done()
		synctest.Wait()
		require.Len(t, r.failed, 1)
		require.ErrorIs(t, r.failed[0], ErrWrite)
		require.ErrorIs(t, r.failed[0], syscall.ECONNRESET)
		require.EqualValues(t, 2, r.Counts().Lost)
	})
}

// One queue holds a lot of data. The other queue of the same flusher waits for one turn only.
func TestFlusherIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{MaxMessages: math.MaxInt, MaxBytes: math.MaxInt}
		loud := newRawRig(t, cfg, nil)
		quiet := newRigOn(t, loud.cfg, loud.wire, loud.Queue.wire)
		synctest.Wait()               // the flusher sleeps
		loud.flusher.ready.Store(nil) // do not wake it before both have something to write
		for range 1000 {
			loud.give(NewFrame(OpText, bytes.Repeat([]byte("x"), 1000)), Message, Disconnect)
		}
		quiet.Queue.flusher = loud.flusher
		loud.Start()
		quiet.say("quiet")
		quiet.Start()
		loud.flusher.wake <- struct{}{}
		synctest.Wait()
		words, _ := parseFrames(loud.wire.wire)
		for i, word := range words {
			if word == "quiet" {
				require.LessOrEqual(t, i, batchBytes/1000+1)
				return
			}
		}
		t.Fatal("never written")
	})
}

// The unwritten rest is kept while the buffer of the flusher serves other queues.
func TestFlusherKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		one := newRawRig(t, Config{}, func(p []byte) (int, error) {
			if full {
				full = false
				return 3, nil
			}
			return len(p), nil
		})
		raw := &rawWire{testWire: newTestWire(), fd: 1}
		first := one.cfg.Flushers.write
		one.flusher.sys = func(fd uintptr, p []byte) (int, error) {
			if fd == 1 {
				return raw.sys(fd, p)
			}
			return first(fd, p)
		}
		two := newRigOn(t, one.cfg, raw.testWire, asWire{raw.testWire, raw})
		two.Queue.flusher = one.flusher
		one.wire.stall(true)
		one.say("one", "more", "of", "these")
		one.Start()
		synctest.Wait()
		two.say("overwrites", "the", "buffer")
		two.Start()
		synctest.Wait()
		one.wire.stall(false)
		synctest.Wait()
		require.Equal(t, "one more of these", one.wire.payloads(t))
		require.Equal(t, "overwrites the buffer", two.wire.payloads(t))
	})
}

// FuzzFlusher pushes frames of many sizes while the system call returns any permitted result. The
// wire must have all frames, complete and in order.
func FuzzFlusher(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte("the socket is full now and then"))
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 || len(program) > 200 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			step := 0
			r := newRawRig(t, Config{MaxBytes: math.MaxInt, MaxMessages: math.MaxInt},
				func(p []byte) (int, error) {
					step++
					switch op := program[step%len(program)]; op % 5 {
					case 0:
						return 0, syscall.EAGAIN
					case 1:
						if step%2 == 0 {
							return 0, syscall.EINTR
						}
						return min(len(p), 1), nil
					case 2:
						return min(len(p), int(op)+1), nil
					default:
						return len(p), nil
					}
				})
			r.Start()
			var want []string
			for i, op := range program {
				word := fmt.Sprint(i) + strings.Repeat("x", int(op)*200)
				want = append(want, word)
				r.say(word)
				if op%7 == 0 {
					synctest.Wait()
				}
			}
			r.Close(CloseFrame(1000, ""), time.Second)
			r.ReadEnded()
			<-r.Done()
			require.Equal(t, strings.Join(append(want, "close"), " "), r.wire.payloads(t))
		})
	})
}

// tcpWire is a real socket.
type tcpWire struct{ *net.TCPConn }

func (w tcpWire) Write(batch []*Frame, m Meter) error {
	for _, f := range batch {
		if _, err := w.TCPConn.Write(f.Wire()); err != nil {
			return err
		}
		m.Took(f.Len(), false)
	}
	return nil
}

func (w tcpWire) RawConn() syscall.RawConn {
	raw, err := w.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// A million messages on real sockets with small buffers, with a reader that pauses and with pongs,
// at several numbers of cores, arrive complete and in order. The same flushers also serve a second
// queue.
func TestFlusherMillionMessages(t *testing.T) {
	each := long.Of[uint64](33_334, 333_334, 333_334)
	for _, cores := range []int{1, 2, 8} {
		t.Run(fmt.Sprint(cores), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			million(t, each)
		})
	}
}

// window is the number of messages pushed for each signal from the reader.
const window = 1000

func million(t *testing.T, messages uint64) {
	var wg sync.WaitGroup
	fs := NewFlushers(wg.Go)
	cfg := Config{MaxMessages: math.MaxInt, MaxBytes: math.MaxInt, Flushers: fs}
	server, client := tcptest.Pair(t)
	require.NoError(t, server.SetWriteBuffer(16<<10))
	r := newRigOn(t, cfg, nil, tcpWire{server})
	r.Start()
	server2, client2 := tcptest.Pair(t)
	other := newRigOn(t, cfg, nil, tcpWire{server2})
	other.Start()
	t.Cleanup(func() {
		fs.Close()
		wg.Wait()
	})

	done := make(chan struct{})
	read := make(chan struct{}, messages/window+2) // the reader never blocks
	for range 5 {
		read <- struct{}{}
	}
	go func() {
		defer close(done)
		for i := range messages {
			p := binary.BigEndian.AppendUint64(nil, i)
			r.give(NewFrame(OpBinary, append(p, make([]byte, i%97)...)), Message, Disconnect)
			if i%3 == 0 {
				r.Pong(NewFrame(OpPong, []byte("pong")))
			}
			if i%window == window-1 {
				<-read
			}
		}
	}()
	go echoes(other, messages/1000)
	readMillion(t, client, messages, read)
	<-done
	readEchoes(t, client2, messages/1000)
}

// echoes pushes numbers to the other queue.
func echoes(r *rig, n uint64) {
	for i := range n {
		r.give(NewFrame(OpBinary, binary.BigEndian.AppendUint64(nil, i)), Message, Disconnect)
	}
}

func readEchoes(t *testing.T, client *net.TCPConn, n uint64) {
	br := bufio.NewReader(client)
	for i := range n {
		_, p := readOne(t, br)
		require.Equal(t, i, binary.BigEndian.Uint64(p))
	}
}

func readMillion(t *testing.T, client *net.TCPConn, messages uint64, read chan<- struct{}) {
	require.NoError(t, client.SetReadDeadline(time.Now().Add(2*time.Minute)))
	br := bufio.NewReaderSize(client, 512) // small reads
	for next := uint64(0); next < messages; {
		op, p := readOne(t, br)
		if op == OpPong {
			require.Equal(t, "pong", string(p))
			continue
		}
		if binary.BigEndian.Uint64(p) != next || len(p) != 8+int(next%97) {
			require.FailNow(t, "out of order", "want %d, got %x", next, p)
		}
		if next%window == 0 {
			read <- struct{}{}
		}
		if next++; rand.IntN(2000) == 0 {
			for range 50 {
				runtime.Gosched() // a pause, in which the buffers fill
			}
		}
	}
}

func readOne(t *testing.T, br *bufio.Reader) (Op, []byte) {
	head, err := br.Peek(2)
	require.NoError(t, err)
	require.Less(t, head[1], byte(126))
	p := make([]byte, 2+int(head[1]))
	_, err = io.ReadFull(br, p)
	require.NoError(t, err)
	if p[0] != 0x82 && p[0] != 0x8A {
		require.FailNow(t, "out of frame", "%x", p)
	}
	return Op(p[0] & 0x0F), p[2:]
}

// Shutdown and Close may run at once, and each closes the flushers.
func TestFlushersCloseConcurrently(t *testing.T) {
	for range 100 {
		var flushers, closers sync.WaitGroup
		fs := NewFlushers(flushers.Go)
		fs.next()
		for range 3 {
			closers.Go(fs.Close)
		}
		closers.Wait()
		flushers.Wait()
	}
}
