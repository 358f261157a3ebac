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

// listener writes down what an intake says.
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

// newIntakes returns intakes that end with the test.
func newIntakes(t testing.TB) *Intakes {
	var wg sync.WaitGroup
	is := NewIntakes(wg.Go)
	t.Cleanup(func() {
		is.Close()
		wg.Wait()
	})
	return is
}

// begun returns the intake of a real socket, and its far end.
func begun(t *testing.T, is *Intakes, early string) (*Intake, *listener, *net.TCPConn) {
	server, client := tcptest.Pair(t)
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	in, ears := NewIntake(is, server, raw, []byte(early)), newListener()
	in.Begin(ears, NewScanner(1<<20, false))
	t.Cleanup(in.Release)
	return in, ears, client
}

func send(t *testing.T, c net.Conn, p string) {
	_, err := io.WriteString(c, p)
	require.NoError(t, err)
}

// expect reads until it has these bytes.
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

func TestIntakePassesEverythingOn(t *testing.T) {
	stream := inbound(finText, 5) + inbound(finPing, 0) + inbound(finText, 3*chunkBytes)
	for _, size := range []int{1, 32, chunkBytes, 2 * chunkBytes} {
		in, ears, client := begun(t, newIntakes(t), stream[:7])
		send(t, client, stream[7:])
		expect(t, in, stream, size)
		require.Nil(t, in.lent, "a buffer was kept")
		require.Positive(t, ears.heard.Load())
		require.NoError(t, client.CloseWrite())
		_, err := in.Read(make([]byte, size))
		require.Equal(t, io.EOF, err)
	}
}

// TestIntakeStopsAtTheEndOfAMessage: so that whoever has taken a message for shorter than it
// is can be found out.
func TestIntakeStopsAtTheEndOfAMessage(t *testing.T) {
	first, second := inbound(finPing, 3)+inbound(finText, 50), inbound(finText, 20)
	for _, early := range []string{"", first[:20], first + second} {
		in, _, client := begun(t, newIntakes(t), early)
		send(t, client, (first + second)[len(early):])
		got := 0
		for got < len(first) {
			n, err := in.Read(make([]byte, 40))
			require.NoError(t, err)
			got += n
			between := got == 9 || got == len(first) // behind the ping, and behind the message
			require.Equal(t, between, in.Done(), "after %d bytes", got)
		}
		require.Equal(t, len(first), got)
		expect(t, in, second, 1000)
	}
}

func TestIntakeOfAWrappedConnection(t *testing.T) {
	first, second := inbound(finText, 50), inbound(finText, 2*chunkBytes)
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

func TestIntakeStopsBeforeWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ good, bad, reason string }{
		{inbound(finText, 50), "\x8f\x80", "unknown opcode"},
		{inbound(opText, 50), "\x09\x80", "control frame is fragmented"},
		{inbound(opText, 50), inbound(finText, 0), "message begins inside another"},
	} {
		for _, early := range []int{0, 10, len(c.good) + 2} {
			stream := c.good + c.bad
			in, _, client := begun(t, newIntakes(t), stream[:early])
			send(t, client, stream[early:]+c.good)
			expect(t, in, c.good, 33)
			_, err := in.Read(make([]byte, 10))
			require.Equal(t, in.Wrong(), err)
			require.Equal(t, &Violation{1002, c.reason}, in.Wrong())
		}
	}
}

func TestIntakeTellsATornMessage(t *testing.T) {
	for _, torn := range []string{"\x81", inbound(finText, 5)[:8], inbound(1, 5)} {
		in, _, client := begun(t, newIntakes(t), "")
		send(t, client, torn)
		require.NoError(t, client.CloseWrite())
		expect(t, in, torn, 100)
		_, err := in.Read(make([]byte, 100))
		require.Equal(t, ErrTorn, err)
	}
}

// TestIntakeHoldsControlFrames: the WebSocket library gets them whole, with what comes before
// and behind them in its place.
func TestIntakeHoldsControlFrames(t *testing.T) {
	text, ping := inbound(finText, 5), inbound(finPing, 20)
	stream := text + ping + ping + text
	for cut := range len(stream) {
		whole := cut // how much may be passed on before the rest has come
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
			in, _, client := begun(t, newIntakes(t), stream[:cut])
			if wrapped {
				in.raw = nil
			}
			send(t, client, stream[cut:])
			expect(t, in, stream, 40)
			require.True(t, in.Done())
		}
	}
}

// fakeRaw is a socket whose reads are what a script says.
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

// FuzzIntake lets the system call return anything, and callers come and go: what Read
// returns is the stream, in order and to its end, and it never leaves inside a message.
func FuzzIntake(f *testing.F) {
	f.Add([]byte(inbound(finText, 3)+inbound(1, 4)+inbound(finCont, 2)), []byte{3, 0, 9, 1, 200, 2})
	f.Add([]byte(inbound(finText, 300)), []byte{0, 0, 255, 4, 0, 1, 250, 5})
	f.Add([]byte(inbound(finPing, 3)), []byte{3, 6})
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
				in.MayLeave(!in.leave)
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
				require.True(t, s.Between(), "left inside a message")
				continue
			}
			if err == nil {
				continue
			}
			if in.Wrong() != nil {
				require.Equal(t, wrong, in.Wrong())
				require.GreaterOrEqual(t, got, good)
				require.Less(t, got, good+10, "more than its header")
			} else {
				require.Equal(t, at-len(in.held), got, "something was swallowed")
				require.True(t, errors.Is(err, end) || err == ErrTorn && end == io.EOF, "%v", err)
			}
			require.Nil(t, in.lent)
			return
		}
	})
}
