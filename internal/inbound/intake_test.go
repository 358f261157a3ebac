package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/tcptest"
)

// listener records the events of an intake.
type listener struct {
	heard  atomic.Int64
	waits  chan bool
	wakes  chan struct{}
	onWake func()
}

func newListener() *listener {
	return &listener{waits: make(chan bool, 100), wakes: make(chan struct{}, 100)}
}

func (l *listener) Heard(int) { l.heard.Add(1) }

func (l *listener) Waiting(inside bool) {
	select {
	case l.waits <- inside:
	default:
	}
}

func (l *listener) Wake() {
	if l.onWake != nil {
		l.onWake()
		return
	}
	l.wakes <- struct{}{}
}

// newIntakes returns intakes that are closed when the test ends.
func newIntakes(t testing.TB) *Intakes {
	var wg sync.WaitGroup
	is := NewIntakes(wg.Go)
	t.Cleanup(func() {
		is.Close()
		wg.Wait()
	})
	return is
}

// newTestIntake returns the intake of a real socket, and the client's end of the connection.
func newTestIntake(t *testing.T, is *Intakes, early string) (*Intake, *listener, *net.TCPConn) {
	server, client := tcptest.Pair(t)
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	in, l := NewIntake(is, server, raw, []byte(early)), newListener()
	in.Begin(l, NewScanner(1<<20, false))
	t.Cleanup(in.Release)
	return in, l, client
}

func send(t *testing.T, c net.Conn, p string) {
	_, err := io.WriteString(c, p)
	require.NoError(t, err)
}

// expect reads until it has the wanted bytes.
func expect(t *testing.T, in *Intake, want string, size int) {
	t.Helper()
	got, p := "", make([]byte, size)
	for len(got) < len(want) {
		n, err := in.Read(p)
		require.NoError(t, err)
		got += string(p[:n])
	}
	require.Equal(t, want, got)
}

func TestIntakePassesEverything(t *testing.T) {
	stream := frame(finText, 5) + frame(finPing, 0) + frame(finText, 3*chunkBytes)
	for _, size := range []int{1, 32, chunkBytes, 2 * chunkBytes} {
		in, l, client := newTestIntake(t, newIntakes(t), stream[:7])
		send(t, client, stream[7:])
		expect(t, in, stream, size)
		require.Nil(t, in.borrowed, "a buffer was kept")
		require.Positive(t, l.heard.Load())
		require.NoError(t, client.CloseWrite())
		_, err := in.Read(make([]byte, size))
		require.Equal(t, io.EOF, err)
	}
}

// Stopping at the end of a message makes it possible to detect a reader that takes a part of a
// message for the whole.
func TestIntakeStopsAtTheEndOfAMessage(t *testing.T) {
	first, second := frame(finPing, 3)+frame(finText, 50), frame(finText, 20)
	for _, early := range []string{"", first[:20], first + second} {
		in, _, client := newTestIntake(t, newIntakes(t), early)
		send(t, client, (first + second)[len(early):])
		got := 0
		for got < len(first) {
			n, err := in.Read(make([]byte, 40))
			require.NoError(t, err)
			got += n
			between := got == 9 || got == len(first) // after the ping, and after the message
			require.Equal(t, between, in.Done(), "after %d bytes", got)
		}
		require.Equal(t, len(first), got)
		expect(t, in, second, 1000)
	}
}

func TestIntakeOfAWrappedConnection(t *testing.T) {
	first, second := frame(finText, 50), frame(finText, 2*chunkBytes)
	server, client := tcptest.Pair(t)
	in := NewIntake(newIntakes(t), server, nil, nil)
	in.Begin(newListener(), NewScanner(1<<20, false))
	send(t, client, first+second+first)
	p := make([]byte, 2*chunkBytes)
	n, err := in.Read(p)
	require.NoError(t, err)
	require.Equal(t, first, string(p[:n]))
	require.True(t, in.Done())
	expect(t, in, second+first, chunkBytes)
	require.False(t, in.Park())
	require.False(t, in.Nudge())
}

func TestIntakeStopsBeforeAViolation(t *testing.T) {
	for _, c := range []struct{ good, bad, reason string }{
		{frame(finText, 50), "\x8f\x80", "unknown opcode"},
		{frame(opText, 50), "\x09\x80", "control frame is fragmented"},
		{frame(opText, 50), frame(finText, 0), "message begins inside another"},
	} {
		for _, early := range []int{0, 10, len(c.good) + 2} {
			stream := c.good + c.bad
			in, _, client := newTestIntake(t, newIntakes(t), stream[:early])
			send(t, client, stream[early:]+c.good)
			expect(t, in, c.good, 33)
			_, err := in.Read(make([]byte, 10))
			require.Equal(t, in.Wrong(), err)
			require.Equal(t, &Violation{1002, c.reason}, in.Wrong())
		}
	}
}

func TestIntakeReportsATornMessage(t *testing.T) {
	for _, torn := range []string{"\x81", frame(finText, 5)[:8], frame(1, 5)} {
		in, _, client := newTestIntake(t, newIntakes(t), "")
		send(t, client, torn)
		require.NoError(t, client.CloseWrite())
		expect(t, in, torn, 100)
		_, err := in.Read(make([]byte, 100))
		require.Equal(t, ErrTorn, err)
	}
}

// The WebSocket library gets complete control frames, in the right place between the other bytes.
func TestIntakeHoldsPartialControlFrames(t *testing.T) {
	text, ping := frame(finText, 5), frame(finPing, 20)
	stream := text + ping + ping + text
	for cut := range len(stream) {
		whole := cut // how much may be returned before the rest has arrived
		for _, at := range []int{len(text), len(text + ping)} {
			if cut >= at+2 && cut < at+len(ping) {
				whole = at
			}
		}
		is := newIntakes(t)
		is.read = func(uintptr, []byte) (int, error) { return -1, syscall.ECONNRESET }
		in := NewIntake(is, nil, &fakeRaw{}, []byte(stream[:cut]))
		in.Begin(newListener(), NewScanner(1000, false))
		got, err := io.ReadAll(in)
		require.Equal(t, syscall.ECONNRESET, err)
		require.Equal(t, stream[:whole], string(got))

		for _, wrapped := range []bool{false, true} {
			in, _, client := newTestIntake(t, newIntakes(t), stream[:cut])
			if wrapped {
				in.raw = nil
			}
			send(t, client, stream[cut:])
			expect(t, in, stream, 40)
			require.True(t, in.Done())
		}
	}
}

// fakeRaw is a socket with scripted reads.
type fakeRaw struct {
	late atomic.Bool // the read deadline has passed
}

func (r *fakeRaw) Control(f func(uintptr)) error  { return nil }
func (r *fakeRaw) Write(func(uintptr) bool) error { return errors.ErrUnsupported }
func (r *fakeRaw) SetReadDeadline(at time.Time) error {
	r.late.Store(!at.IsZero())
	return nil
}

func (r *fakeRaw) Read(f func(uintptr) bool) error {
	for {
		if r.late.Load() {
			return &net.OpError{Op: "raw-read", Err: os.ErrDeadlineExceeded}
		}
		if f(7) {
			return nil
		}
	}
}

type fakeConn struct {
	net.Conn
	*fakeRaw
}

func (c fakeConn) SetReadDeadline(at time.Time) error { return c.fakeRaw.SetReadDeadline(at) }
func (c fakeConn) Read([]byte) (int, error)           { panic("not this way") }
func (c fakeConn) Write([]byte) (int, error)          { panic("not this way") }

// FuzzIntake lets the system call return anything, and lets callers nudge and leave. Read must
// return the whole stream in order, and ErrQuiet only between messages.
func FuzzIntake(f *testing.F) {
	f.Add([]byte(frame(finText, 3)+frame(1, 4)+frame(finCont, 2)), []byte{3, 0, 9, 1, 200, 2})
	f.Add([]byte(frame(finText, 300)), []byte{0, 0, 255, 4, 0, 1, 250, 5})
	f.Add([]byte(frame(finPing, 3)), []byte{3, 6})
	f.Fuzz(func(t *testing.T, stream, script []byte) {
		raw, at, step := &fakeRaw{}, 0, 0
		var end error
		var in *Intake
		is := newIntakes(t)
		is.read = func(fd uintptr, p []byte) (int, error) {
			if step == len(script) {
				end = io.EOF
				return 0, nil
			}
			step++
			switch op := script[step-1]; op {
			case 0:
				return -1, syscall.EAGAIN
			case 1:
				return -1, syscall.EINTR
			case 2:
				end = syscall.ECONNRESET
				return -1, end
			case 3:
				in.MayLeave(!in.mayLeave)
				return -1, syscall.EAGAIN
			case 4:
				in.Nudge()
				return -1, syscall.EAGAIN
			default:
				n := copy(p, stream[at:min(len(stream), at+int(op))])
				if at += n; n == 0 {
					end = io.EOF
				}
				return n, nil
			}
		}
		in = NewIntake(is, fakeConn{fakeRaw: raw}, raw, nil)
		in.Begin(newListener(), NewScanner(1000, false))
		oracle := NewScanner(1000, false)
		good, wrong := scanAll(&oracle, stream)
		got, p := 0, make([]byte, 40)
		for {
			n, err := in.Read(p)
			require.Equal(t, string(stream[got:got+n]), string(p[:n]))
			got += n
			if errors.Is(err, ErrQuiet) {
				s := NewScanner(1000, false)
				_, _ = scanAll(&s, stream[:got])
				require.True(t, s.Between(), "ErrQuiet inside a message")
				continue
			}
			if err == nil {
				continue
			}
			if in.Wrong() != nil {
				require.Equal(t, wrong, in.Wrong())
				require.GreaterOrEqual(t, got, good)
				require.Less(t, got, good+10, "more than the header of the bad frame")
			} else {
				require.Equal(t, at-len(in.partial), got, "bytes were lost")
				require.True(t, errors.Is(err, end) || err == ErrTorn && end == io.EOF, "%v", err)
			}
			require.Nil(t, in.borrowed)
			return
		}
	})
}
