//go:build !realtime_portable

package inbound

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
)

// taken returns the number of parked connections.
func (p *parking) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) - len(p.free)
}

func TestParkedConnectionIsWoken(t *testing.T) {
	in, l, client := newTestIntake(t, newIntakes(t), "")
	hello := frame(finText, 5)
	for range 3 {
		require.True(t, in.Park())
		require.Nil(t, in.reader, "a parked connection takes memory for reading")
		send(t, client, hello)
		<-l.wakes
		expect(t, in, "xxxxx")
	}
	_, _, err := in.Message(nil, false)
	require.Equal(t, ErrQuiet, err)
	send(t, client, hello)
	require.True(t, in.Park(), "with input already available")
	<-l.wakes
	expect(t, in, "xxxxx")
	require.True(t, in.Park())
	require.NoError(t, client.Close())
	<-l.wakes
	_, _, err = in.Message(nil, true)
	require.Equal(t, io.EOF, err)
	require.Zero(t, in.shared.parking.taken())
}

func TestEarlyBytesAreNotParked(t *testing.T) {
	in, _, _ := newTestIntake(t, newIntakes(t), frame(finText, 1))
	require.False(t, in.Park())
}

func TestInterruptEndsOnlyQuietReads(t *testing.T) {
	in, l, client := newTestIntake(t, newIntakes(t), "")
	read := make(chan error)
	next := func() {
		_, _, err := in.Message(nil, true)
		read <- err
	}
	go next()
	require.False(t, <-l.waits)
	require.True(t, in.Interrupt())
	require.Equal(t, ErrQuiet, <-read)

	go next()
	require.False(t, <-l.waits)
	send(t, client, "\x81") // half a header
	require.True(t, <-l.waits)
	require.True(t, in.Interrupt())
	require.True(t, <-l.waits, "it waits again")
	require.True(t, in.Interrupt(), "and can be interrupted again")
	require.True(t, <-l.waits)
	send(t, client, frame(finText, 5)[1:])
	require.NoError(t, <-read)
	require.True(t, in.reader.scanner.Between())
}

// TestDescriptorReuse opens, parks and closes connections that share a few descriptors, so that an
// event for one could reach another. Each connection must read only its own bytes.
func TestDescriptorReuse(t *testing.T) {
	rounds := long.Of(5_000, 100_000, 100_000)
	const workers = 4
	is := newIntakes(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	var mu sync.Mutex // keeps a dial and its accept together
	pair := func() (server, client *net.UnixConn) {
		mu.Lock()
		defer mu.Unlock()
		c, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		return s.(*net.UnixConn), c.(*net.UnixConn)
	}
	var wg sync.WaitGroup
	var read atomic.Int64
	for w := range workers {
		wg.Go(func() {
			for i := w; i < rounds; i += workers {
				server, client := pair()
				reuse(t, is, server, client, uint64(i), &read)
			}
		})
	}
	wg.Wait()
	require.Positive(t, read.Load())
	require.Zero(t, is.parking.taken())
}

// reuse runs the life of one connection.
func reuse(t *testing.T, is *Intakes, server, client *net.UnixConn, id uint64, read *atomic.Int64) {
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	in, l := new(Intake), newListener()
	in.Init(is, server, raw, nil)
	in.Begin(l, 1000)
	require.True(t, in.Park())
	frame := binary.BigEndian.AppendUint64([]byte{finBit | opBinary, maskBit | 8, 0, 0, 0, 0}, id)
	switch rand.IntN(3) {
	case 0: // the connection ends while it is parked
	case 1: // the connection ends while it is being woken
		_, _ = client.Write(frame)
	default:
		_, err = client.Write(frame)
		require.NoError(t, err)
		<-l.wakes
		expect(t, in, string(frame[6:]))
		read.Add(1)
		if rand.IntN(2) == 0 {
			require.True(t, in.Park())
		}
	}
	if rand.IntN(2) == 0 {
		require.NoError(t, client.Close())
	}
	require.NoError(t, server.Close())
	in.Release()
	_ = client.Close()
}

func TestParkedConnectionsCostNoGoroutine(t *testing.T) {
	is := newIntakes(t)
	first, l, client := newTestIntake(t, is, "")
	require.True(t, first.Park())
	before := runtime.NumGoroutine()
	for range 200 {
		in, _, _ := newTestIntake(t, is, "")
		require.True(t, in.Park())
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
	send(t, client, "x")
	<-l.wakes
}

// When the poller breaks, each parked connection continues with its own goroutine.
func TestBrokenPollerWakesAll(t *testing.T) {
	is := newIntakes(t)
	broken := make(chan struct{})
	is.parking.sys.wait = func(epfd int, events []syscall.EpollEvent, msec int) (int, error) {
		select {
		case <-broken:
			return -1, syscall.EBADF
		default:
			return syscall.EpollWait(epfd, events, msec)
		}
	}
	in, l, client := newTestIntake(t, is, "")
	other, otherListener, _ := newTestIntake(t, is, "")
	require.True(t, in.Park())
	require.True(t, other.Park())
	close(broken)
	send(t, client, "x")
	<-l.wakes
	<-otherListener.wakes
	require.False(t, in.Park())
	require.False(t, in.Interrupt(), "it cannot be parked")
}

func TestNoPoller(t *testing.T) {
	for name, broken := range map[string]pollCalls{
		"create": {create: func(int) (int, error) { return -1, syscall.EMFILE }},
		"ctl": {
			create: syscall.EpollCreate1, wait: syscall.EpollWait,
			ctl: func(int, int, int, *syscall.EpollEvent) error { return syscall.ENOSPC },
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := newIntakes(t)
			is.parking.sys = broken
			in, _, client := newTestIntake(t, is, "")
			require.False(t, in.Park())
			require.Zero(t, is.parking.taken())
			send(t, client, frame(finText, 5))
			expect(t, in, "xxxxx")
		})
	}
}

// FuzzPoller lets epoll return anything. No connection is woken more often than it was parked, and
// all have been woken when the poller has ended.
func FuzzPoller(f *testing.F) {
	f.Add([]byte{1, 1, 0, 0, 2, 0, 3, 9, 9, 9})
	f.Add([]byte{4, 0, 1, 5, 1, 1, 2})
	f.Fuzz(func(t *testing.T, script []byte) {
		is := newIntakes(t)
		p := is.parking
		step, done := 0, make(chan struct{})
		p.sys.wait = func(_ int, events []syscall.EpollEvent, _ int) (int, error) {
			if step == len(script) {
				return 0, syscall.EIO
			}
			op := script[step]
			step++
			switch {
			case op == 0:
				return -1, syscall.EINTR
			case op == 255:
				return -1, syscall.EIO
			}
			n := int(op % 8)
			for i := range n { // late and duplicate events, also for other connections
				events[i] = syscall.EpollEvent{Fd: int32(rand.Uint32N(12)), Pad: int32(op >> 6)}
			}
			return max(n, 1), nil
		}
		p.sys.ctl = func(int, int, int, *syscall.EpollEvent) error { return nil }
		poller, err := newPoller(p.sys)
		require.NoError(t, err)
		p.once.Do(func() { p.poller = poller })
		var parked, woken [8]int
		ins := make([]*Intake, len(parked))
		for i := range ins {
			raw := &fakeRaw{}
			ins[i] = new(Intake)
			ins[i].Init(is, fakeConn{fakeRaw: raw}, raw, nil)
			l := newListener()
			l.onWake = func() { woken[i]++ }
			ins[i].Begin(l, 1000)
			require.True(t, ins[i].Park())
			parked[i]++
		}
		go func() {
			defer close(done)
			p.serve(poller)
		}()
		<-done
		require.Equal(t, parked, woken)
		require.False(t, ins[0].Park())
	})
}
