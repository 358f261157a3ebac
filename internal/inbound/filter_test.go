package inbound

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/tcptest"
)

// newTestFilter returns the filter of a stream, of which some bytes have been read early.
func newTestFilter(stream string, early int) (*Filter, *listener) {
	f, l := NewFilter(&memConn{Reader: strings.NewReader(stream[early:])}, []byte(stream[:early])),
		newListener()
	f.Begin(l, NewScanner(1<<20, false))
	return f, l
}

// Stopping at the end of a message makes it possible to detect a reader that takes a part of a
// message for the whole.
func TestFilterStopsAtTheEndOfAMessage(t *testing.T) {
	first, ping := frame(finText, 50), frame(finPing, 3)
	second := frame(1, 3*filterBytes) + frame(finPing, 0) + frame(finCont, 5*chunkBytes)
	for _, size := range []int{1, 40, chunkBytes, 10 * chunkBytes} {
		for _, early := range []int{0, 20, len(first) + 10} {
			f, l := newTestFilter(ping+first+second+ping+ping+first, early)
			want := first + second + first
			at, p := 0, make([]byte, size)
			for _, end := range []int{len(first), len(first + second), len(want)} {
				for at < end {
					n, err := f.Read(p)
					require.NoError(t, err)
					require.Equal(t, want[at:at+n], string(p[:n]))
					at += n
					require.Equal(t, at == end, f.Done(), "%d", at)
				}
				require.Equal(t, end, at)
			}
			require.Equal(t, []string{"xxx", "xxx", "xxx"}, l.pings, "those between messages")
			require.EqualValues(t, len(want)+3*len(ping)-early, l.alive.Load())
		}
	}
}

// A control frame that arrives in parts goes to the library.
func TestFilterPassesPartsOfControlFrames(t *testing.T) {
	stream := masked(finPing, "ping") + frame(finText, 1)
	f, l := newTestFilter(stream, 8)
	passed, err := io.ReadAll(f)
	require.Equal(t, errEnd, err)
	require.Equal(t, stream, string(passed))
	require.Empty(t, l.pings)
	f, l = newTestFilter(masked(finPing, "ping")+masked(finBit|opPong, "pong"), 0)
	require.Equal(t, errEnd, f.Await())
	require.Equal(t, []string{"ping", "pong pong"}, l.pings)
}

func TestFilterStopsBeforeAViolation(t *testing.T) {
	for _, early := range []int{0, 10, 58} {
		f, _ := newTestFilter(frame(finText, 50)+"\x8f\x80"+frame(finText, 1), early)
		passed, err := io.ReadAll(f)
		require.Equal(t, frame(finText, 50), string(passed))
		require.Equal(t, f.Wrong(), err)
		require.Equal(t, &Violation{1002, "unknown opcode"}, f.Wrong())
	}
}

func TestFilterReportsATornMessage(t *testing.T) {
	for _, torn := range []string{"\x81", frame(finText, 5)[:8], frame(1, 5)} {
		server, client := tcptest.Pair(t)
		f := NewFilter(server, nil)
		f.Begin(newListener(), NewScanner(1000, false))
		send(t, client, torn)
		require.NoError(t, client.CloseWrite())
		passed, err := io.ReadAll(f)
		require.Equal(t, torn, string(passed))
		require.Equal(t, ErrTorn, err)
	}
}

func TestFilterAhead(t *testing.T) {
	server, client := tcptest.Pair(t)
	f := NewFilter(server, nil)
	f.Begin(newListener(), NewScanner(1000, false))
	require.False(t, f.Ahead())
	send(t, client, frame(finText, 3))
	require.NoError(t, client.CloseWrite())
	require.Eventually(t, f.Ahead, 10*time.Second, time.Millisecond)
	passed, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Equal(t, frame(finText, 3), string(passed), "Ahead loses nothing")
	require.True(t, f.Ahead(), "the end")
}

// FuzzFilter passes any bytes to coder/websocket through a filter. The library reads the same
// messages without it, until the first violation.
func FuzzFilter(f *testing.F) {
	addStreams(func(stream []byte) { f.Add(stream, uint16(len(stream)/2)) })
	f.Fuzz(func(t *testing.T, stream []byte, early uint16) {
		filter, _ := newTestFilter(string(stream), min(len(stream), int(early)))
		oracle := NewScanner(1<<20, false)
		good, wrong := scanAll(&oracle, stream)
		want, _ := readWithLibrary(t, strings.NewReader(string(stream[:good])))
		got, _ := readWithLibrary(t, ended{filter})
		require.Equal(t, want, got)
		if hasCloseFrame(stream[:good]) {
			wrong = nil // it is not read
		}
		require.Equal(t, wrong, filter.Wrong())
	})
}

// ended is a reader whose violation is an end that memConn knows.
type ended struct{ io.Reader }

func (e ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if _, ok := errors.AsType[*Violation](err); ok {
		err = errEnd
	}
	return n, err
}
