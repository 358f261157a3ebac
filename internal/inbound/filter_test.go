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
	first := frame(finPing, 3) + frame(finText, 50)
	second := frame(1, 3*filterBytes) + frame(finPing, 0) + frame(finCont, 5*chunkBytes)
	for _, size := range []int{1, 40, chunkBytes, 10 * chunkBytes} {
		for _, early := range []int{0, 20, len(first) + 10} {
			f, l := newTestFilter(first+second+first, early)
			at, p := 0, make([]byte, size)
			for _, end := range []int{len(first), len(first + second), len(first + second + first)} {
				for at < end {
					n, err := f.Read(p)
					require.NoError(t, err)
					require.Equal(t, (first + second + first)[at:at+n], string(p[:n]))
					at += n
					require.Equal(t, at == end, f.Done(), "%d", at)
				}
				require.Equal(t, end, at)
			}
			require.EqualValues(t, len(first+second+first)-early, l.alive.Load())
		}
	}
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
		if !hasCloseFrame(stream[:good]) {
			require.Equal(t, wrong, filter.Wrong())
		}
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
