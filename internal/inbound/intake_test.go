package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/tcptest"
)

// listener records the events of a reader.
type listener struct {
	alive  atomic.Int64
	waits  chan bool
	held   atomic.Int64 // of the last wait
	wakes  chan struct{}
	onWake func()
	pings  []string
}

func newListener() *listener {
	return &listener{waits: make(chan bool, 100), wakes: make(chan struct{}, 100)}
}

func (l *listener) Alive(n int)   { l.alive.Add(int64(n)) }
func (l *listener) Ping(p []byte) { l.pings = append(l.pings, string(p)) }
func (l *listener) Pong(p []byte) { l.pings = append(l.pings, "pong "+string(p)) }

func (l *listener) Waiting(inside bool, held int) {
	l.held.Store(int64(held))
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
	if !is.Available() {
		t.Skip("this build reads connections with the WebSocket library")
	}
	return is
}

// newTestIntake returns the intake of a real socket, and the client's end of the connection.
func newTestIntake(t *testing.T, is *Intakes, early string) (*Intake, *listener, *net.TCPConn) {
	server, client := tcptest.Pair(t)
	raw, err := server.SyscallConn()
	require.NoError(t, err)
	in, l := new(Intake), newListener()
	in.Init(is, server, raw, []byte(early))
	in.Begin(l, 1<<20)
	t.Cleanup(in.Release)
	return in, l, client
}

func send(t *testing.T, c net.Conn, p string) {
	_, err := io.WriteString(c, p)
	require.NoError(t, err)
}

// expect reads one message.
func expect(t *testing.T, in *Intake, want string) {
	t.Helper()
	_, p, err := in.Message(nil, true)
	require.NoError(t, err)
	require.Equal(t, want, string(p))
}

func TestIntakeAssemblesMessages(t *testing.T) {
	large := strings.Repeat("0123456789abcde", 2*chunkBytes)
	pieces := masked(opBinary, large) + masked(finPing, "are you there") + masked(opContinuation, "") +
		masked(finCont, large)
	stream := masked(finText, "first") + pieces + masked(finText, "") + masked(finText, "last") +
		masked(finBit|opPong, "1") + masked(finBit|opClose, "\x03\xe8bye")
	for _, early := range []int{0, 3, 30, 1000, len(stream)} {
		in, l, client := newTestIntake(t, newIntakes(t), stream[:early])
		go func() { _, _ = io.WriteString(client, stream[early:]) }()
		for _, want := range []struct {
			op      byte
			message string
		}{
			{opText, "first"}, {opBinary, large + large}, {opText, ""}, {opText, "last"},
			{opClose, "\x03\xe8bye"},
		} {
			op, p, err := in.Message([]byte("before "), true)
			require.NoError(t, err)
			require.Equal(t, want.op, op)
			if op != opClose {
				want.message = "before " + want.message
			}
			require.Equal(t, want.message, string(p))
		}
		require.Nil(t, in.reader.borrowed, "a buffer was kept")
		require.Equal(t, []string{"are you there", "pong 1"}, l.pings)
		require.EqualValues(t, len(stream)-early, l.alive.Load())
	}
}

// The memory of a message grows with what has arrived, and not with what its header announces.
func TestAnnouncedBytesTakeNoMemory(t *testing.T) {
	in, l, client := newTestIntake(t, newIntakes(t), frame(finText, 1<<20)[:14])
	read := make(chan error)
	go func() {
		_, _, err := in.Message(nil, true)
		read <- err
	}()
	require.True(t, <-l.waits)
	require.LessOrEqual(t, l.held.Load(), int64(2*chunkBytes))
	send(t, client, strings.Repeat("x", 10*chunkBytes))
	for l.alive.Load() < 10*chunkBytes {
		require.True(t, <-l.waits)
	}
	require.LessOrEqual(t, l.held.Load(), int64(40*chunkBytes))
	require.NoError(t, client.Close())
	require.Equal(t, ErrTorn, <-read)
}

func TestIntakeStopsAtAViolation(t *testing.T) {
	for _, c := range []struct{ good, bad, reason string }{
		{frame(finText, 50), "\x8f\x80", "unknown opcode"},
		{frame(opText, 50), "\x09\x80", "control frame is fragmented"},
		{frame(opText, 50), frame(finText, 0), "message begins inside another"},
		{frame(finText, 50), frame(finText, 1<<20+1)[:10], "message is too large"},
	} {
		for _, early := range []int{0, 10, len(c.good) + 2} {
			stream := c.good + c.bad
			in, _, client := newTestIntake(t, newIntakes(t), stream[:early])
			send(t, client, stream[early:]+c.good)
			_, p, err := in.Message(nil, true)
			if c.good[0] == finText {
				require.NoError(t, err)
				require.Len(t, p, 50)
				_, _, err = in.Message(nil, true)
			}
			wrong, ok := errors.AsType[*Violation](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.reason, wrong.Reason)
			require.Nil(t, in.reader.borrowed, "a buffer was kept")
		}
	}
}

func TestIntakeReportsATornMessage(t *testing.T) {
	for _, torn := range []string{"\x81", frame(finText, 5)[:8], frame(1, 5)} {
		in, _, client := newTestIntake(t, newIntakes(t), "")
		send(t, client, torn)
		require.NoError(t, client.CloseWrite())
		_, _, err := in.Message(nil, true)
		require.Equal(t, ErrTorn, err)
	}
	in, _, client := newTestIntake(t, newIntakes(t), "")
	send(t, client, frame(finText, 1))
	require.NoError(t, client.CloseWrite())
	expect(t, in, "x")
	_, _, err := in.Message(nil, true)
	require.Equal(t, io.EOF, err)
}

func TestIntakeAhead(t *testing.T) {
	in, _, client := newTestIntake(t, newIntakes(t), frame(finText, 1)+frame(finText, 2)+"\x81")
	expect(t, in, "x")
	require.True(t, in.Ahead(), "a message")
	expect(t, in, "xx")
	require.True(t, in.Ahead(), "a part of a header, in the buffer")
	send(t, client, frame(finText, 3)[1:])
	expect(t, in, "xxx")
	require.False(t, in.Ahead())
	send(t, client, frame(finText, 4))
	require.NoError(t, client.CloseWrite())
	expect(t, in, "xxxx")
	_, _, err := in.Message(nil, true)
	require.Equal(t, io.EOF, err)
	require.True(t, in.Ahead(), "the end")
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

// script is a system call that returns anything, while callers interrupt and leave.
type script struct {
	in     *Intake
	stream []byte
	ops    []byte
	end    error // the last error
}

func (s *script) read(_ uintptr, p []byte) (int, error) {
	if len(s.ops) == 0 {
		s.end = io.EOF
		return 0, nil
	}
	op := s.ops[0]
	s.ops = s.ops[1:]
	switch op {
	case 0:
		return -1, syscall.EAGAIN
	case 1:
		return -1, syscall.EINTR
	case 2:
		s.end = syscall.ECONNRESET
		return -1, s.end
	case 3:
		s.in.reader.mayLeave = !s.in.reader.mayLeave
		return -1, syscall.EAGAIN
	case 4:
		s.in.Interrupt()
		return -1, syscall.EAGAIN
	default:
		n := copy(p, s.stream[:min(len(s.stream), int(op)*int(op))])
		if s.stream = s.stream[n:]; n == 0 {
			s.end = io.EOF
		}
		return n, nil
	}
}

// FuzzIntake compares the messages that an intake returns with those that coder/websocket reads
// from the same bytes, whatever the system call returns. ErrQuiet is returned only between messages.
func FuzzIntake(f *testing.F) {
	addStreams(func(stream []byte) {
		f.Add(stream, []byte{3, 0, 9, 1, 200, 2})
		f.Add(stream, []byte{0, 0, 255, 4, 0, 1, 250, 5})
		f.Add(stream, []byte{5, 7, 255, 255, 6, 255, 255, 255})
	})
	f.Fuzz(func(t *testing.T, stream, ops []byte) {
		is, raw := newIntakes(t), &fakeRaw{}
		s := &script{in: new(Intake), stream: stream, ops: ops}
		is.read = s.read
		s.in.Init(is, fakeConn{fakeRaw: raw}, raw, nil)
		s.in.Begin(newListener(), 1<<16)
		var messages []string
		var end error
		for end == nil {
			op, p, err := s.in.Message(nil, true)
			switch {
			case errors.Is(err, ErrQuiet):
				require.True(t, s.in.reader.scanner.Between(), "ErrQuiet inside a message")
			case err != nil || op == opClose:
				end = errors.Join(err, errEnd)
			default:
				messages = append(messages, string(p))
			}
		}
		require.Nil(t, s.in.reader.borrowed)
		taken := stream[:len(stream)-len(s.stream)]
		oracle := NewScanner(1<<16, false)
		good, wrong := scanAll(&oracle, taken)
		want, _ := readWithLibrary(t, strings.NewReader(string(taken[:good])))
		require.Equal(t, want, messages)
		if hasCloseFrame(taken[:good]) {
			return
		}
		violation, ok := errors.AsType[*Violation](end)
		require.Equal(t, wrong != nil, ok)
		if ok {
			require.Equal(t, wrong, violation)
		} else {
			require.True(t, errors.Is(end, s.end) || errors.Is(end, ErrTorn) && s.end == io.EOF, "%v", end)
		}
	})
}

// BenchmarkMessage reads messages of 150 bytes.
func BenchmarkMessage(b *testing.B) {
	stream := strings.Repeat(masked(finText, strings.Repeat("x", 150)), 16)
	is, raw := newIntakes(b), &fakeRaw{}
	is.read = func(_ uintptr, p []byte) (int, error) { return copy(p, stream), nil }
	in := new(Intake)
	in.Init(is, fakeConn{fakeRaw: raw}, raw, nil)
	in.Begin(newListener(), 1000)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if _, buf, err = in.Message(buf[:0], true); err != nil {
			b.Fatal(err)
		}
	}
}
