package inbound

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// frame returns a frame of a client. Its mask is zero, so that the payload is readable.
func frame(head byte, n int) string {
	p := []byte{head}
	switch {
	case n > 0xFFFF:
		p = binary.BigEndian.AppendUint64(append(p, maskBit|127), uint64(n))
	case n > 125:
		p = binary.BigEndian.AppendUint16(append(p, maskBit|126), uint16(n))
	default:
		p = append(p, maskBit|byte(n))
	}
	return string(append(p, 0, 0, 0, 0)) + strings.Repeat("x", n)
}

// masked returns a frame of a client with a mask.
func masked(head byte, payload string) string {
	p := []byte(frame(head, len(payload)))
	at := len(p) - len(payload)
	mask := [4]byte{0xA1, 0x52, 0x13, 0xF4}
	copy(p[at-4:], mask[:])
	for i := range payload {
		p[at+i] = payload[i] ^ mask[i&3]
	}
	return string(p)
}

const (
	finText = finBit | opText
	finCont = finBit | opContinuation
	finPing = finBit | opPing
)

// scanAll scans p frame by frame, and returns how many bytes come before a violation.
func scanAll(s *Scanner, p []byte) (n int, wrong *Violation) {
	rest := p
	for len(rest) > 0 && wrong == nil {
		_, rest, wrong = s.Next(rest)
	}
	return len(p) - len(rest), wrong
}

func TestScannerRules(t *testing.T) {
	const limit = 70_000
	hello := frame(finText, 5)
	for name, c := range map[string]struct {
		good, bad string // the violation is detected at the end of bad
		code      uint16
		reason    string
		deflate   bool
	}{
		"text": {good: hello + frame(finBit|2, 126) + frame(finText, limit)},
		"fragments": {
			good: frame(1, 1) + frame(finPing, 125) + frame(0, 1) + frame(finCont, 1) + hello,
		},
		"empty messages": {good: strings.Repeat(frame(finText, 0), 2000)},
		"not masked":     {good: hello, bad: "\x81\x05", code: 1002, reason: "frame is not masked"},
		"rsv1": {
			good: hello, bad: frame(finText|0x40, 0)[:2],
			code: 1002, reason: "reserved bit is set",
		},
		"rsv2": {
			bad:  frame(finText|0x20, 0)[:2],
			code: 1002, reason: "reserved bit is set", deflate: true,
		},
		"rsv3": {
			bad:  frame(finText|0x10, 0)[:2],
			code: 1002, reason: "reserved bit is set", deflate: true,
		},
		"deflated": {
			good:    frame(finText|0x40, 3) + frame(2|0x40, 3) + frame(finCont, 3),
			deflate: true,
		},
		"deflated continuation": {
			good: frame(1|0x40, 3), bad: frame(finCont|0x40, 0)[:2],
			code: 1002, reason: "reserved bit is set", deflate: true,
		},
		"deflated ping": {
			bad:  frame(finPing|0x40, 0)[:2],
			code: 1002, reason: "reserved bit is set", deflate: true,
		},
		"negative length": {
			bad: "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00", code: 1002,
			reason: "length has its highest bit set",
		},
		"opcode 3":  {bad: frame(finBit|3, 0)[:2], code: 1002, reason: "unknown opcode"},
		"opcode 11": {bad: frame(finBit|11, 0)[:2], code: 1002, reason: "unknown opcode"},
		"opcode 15": {bad: frame(finBit|15, 0)[:2], code: 1002, reason: "unknown opcode"},
		"opcode 3 in pieces": {
			good: frame(1, 0), bad: frame(finBit|3, 0)[:2],
			code: 1002, reason: "unknown opcode",
		},
		"half a ping": {bad: frame(9, 0)[:2], code: 1002, reason: "control frame is fragmented"},
		"long ping": {
			bad:  frame(finPing, 126)[:4],
			code: 1002, reason: "control frame is too long",
		},
		"text in a text": {
			good: frame(1, 1), bad: frame(finText, 0)[:2],
			code: 1002, reason: "message begins inside another",
		},
		"continuation": {
			good: hello, bad: frame(finCont, 0)[:2],
			code: 1002, reason: "continuation of nothing",
		},
		"too large": {
			bad:  frame(finText, limit+1)[:10],
			code: 1009, reason: "message is too large",
		},
		"compressed": {
			good: frame(finText|0x40, limit+limit/1024+64),
			bad:  frame(finText, limit+limit/1024+65)[:10], code: 1009, reason: "message is too large",
			deflate: true,
		},
		"too large in pieces": {
			good: frame(1, limit) + frame(0, 0), bad: frame(finCont, 1)[:2],
			code: 1009, reason: "message is too large",
		},
		"huge": {
			good: frame(1, 1), bad: "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
			code: 1009, reason: "message is too large",
		},
		"1024 fragments": {
			good: frame(1, 0) + strings.Repeat(frame(0, 0), 1022) + frame(finCont, 0) + hello,
		},
		"1025 fragments": {
			good: frame(1, 0) + strings.Repeat(frame(0, 0), 1023), bad: frame(finCont, 0)[:2],
			code: 1008, reason: "message has too many fragments",
		},
	} {
		t.Run(name, func(t *testing.T) {
			stream := []byte(c.good + c.bad)
			whole := NewScanner(limit, c.deflate)
			n, wrong := scanAll(&whole, []byte(c.good+c.bad+hello))
			bytewise := NewScanner(limit, c.deflate)
			var found *Violation
			at := 0
			for ; at < len(stream) && found == nil; at++ {
				_, _, found = bytewise.Next(stream[at : at+1])
			}
			require.Equal(t, wrong, found, "byte by byte")
			if c.bad == "" {
				require.Nil(t, wrong)
				require.True(t, whole.Between())
				return
			}
			require.Equal(t, &Violation{c.code, c.reason}, wrong)
			require.Equal(t, len(c.good), n, "bytes before the violation")
			require.Equal(t, len(stream), at, "detected as early as possible")
		})
	}
}

// Next returns one frame at a time, and says where a message ends.
func TestScannerState(t *testing.T) {
	type state struct {
		payload          string
		between, control bool
		message          byte
	}
	stream := []byte(frame(opBinary, 2) + frame(finPing, 1) + frame(finCont, 0) + frame(finText, 3))
	want := []state{
		{payload: "xx"}, {payload: "x", control: true}, {between: true, message: opBinary},
		{payload: "xxx", between: true, message: opText},
	}
	s := NewScanner(1000, false)
	require.True(t, s.Between())
	rest := stream
	for _, w := range want {
		var payload []byte
		payload, rest, _ = s.Next(rest)
		require.Equal(t, w, state{string(payload), s.Between(), s.inControl(), s.message()})
	}
	require.Empty(t, rest)

	s = NewScanner(1000, false)
	var ends []int
	for i := range stream {
		_, rest, wrong := s.Next(stream[i : i+1])
		require.Nil(t, wrong)
		require.Empty(t, rest)
		if s.message() != 0 {
			require.True(t, s.Between())
			ends = append(ends, i+1)
		}
	}
	require.Equal(t, []int{8 + 7 + 6, len(stream)}, ends)
}

// The mask continues where the payload was cut.
func TestUnmask(t *testing.T) {
	const text = "the quick brown fox jumps over the lazy dog"
	for cut := range len(text) {
		for again := range len(text) - cut {
			s := NewScanner(1000, false)
			p := []byte(masked(finText, text))
			first, rest, _ := s.Next(p[:6+cut])
			require.Empty(t, rest)
			s.Unmask(first)
			second, _, _ := s.Next(p[6+cut : 6+cut+again])
			s.Unmask(second)
			third, _, _ := s.Next(p[6+cut+again:])
			s.Unmask(third)
			require.Equal(t, text, string(first)+string(second)+string(third))
		}
	}
}

// errEnd ends a memConn. coder/websocket takes io.EOF for the end of a message.
var errEnd = errors.New("end of test data")

// memConn is a net.Conn that returns the bytes of its Reader, and then errEnd.
type memConn struct {
	net.Conn
	io.Reader
	written bytes.Buffer
}

func (c *memConn) Write(p []byte) (int, error)      { return c.written.Write(p) }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

func (c *memConn) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n == 0 && err == io.EOF {
		err = errEnd
	}
	return n, err
}

type memHijacker struct {
	http.ResponseWriter
	conn *memConn
}

func (h memHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// readWithLibrary reads the bytes of a client with coder/websocket. It returns the messages, and
// whether the library found a violation.
func readWithLibrary(t *testing.T, in io.Reader) (messages []string, violation bool) {
	r := httptest.NewRequest("GET", "/", nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(k, v)
	}
	h := memHijacker{httptest.NewRecorder(), &memConn{Reader: in}}
	ws, err := websocket.Accept(h, r, nil)
	require.NoError(t, err)
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(-1)
	for {
		_, p, err := ws.Read(context.Background())
		if err == nil {
			messages = append(messages, string(p))
			continue
		}
		var closed websocket.CloseError
		over := errors.Is(err, errEnd) || errors.As(err, &closed)
		return messages, !over
	}
}

// FuzzScanner compares the scanner with coder/websocket. Both must accept the same bytes and reject
// the same bytes, except for the limits that only the scanner has.
func FuzzScanner(f *testing.F) {
	addStreams(func(stream []byte) { f.Add(stream, uint8(len(stream))) })
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		s := NewScanner(math.MaxInt, false)
		good, wrong := scanAll(&s, stream)
		pieces := NewScanner(math.MaxInt, false)
		for at := 0; at < len(stream); {
			piece := stream[at:min(len(stream), at+1+int(step))]
			n, w := scanAll(&pieces, piece)
			if w != nil {
				require.Equal(t, wrong, w)
				break
			}
			require.Equal(t, len(piece), n)
			at += n
		}
		if wrong == nil {
			require.Equal(t, s.Between(), pieces.Between())
		}

		all, violation := readWithLibrary(t, io.MultiReader(bytes.NewReader(stream), padding(wrong)))
		passed, _ := readWithLibrary(t, bytes.NewReader(stream[:good]))
		require.Equal(t, all, passed, "messages before the violation")
		switch closes := hasCloseFrame(stream[:good]); {
		case closes || wrong != nil && wrong.Code != 1002: // the library stops there, or has no limit
		default:
			require.Equal(t, wrong != nil, violation, "%v", wrong)
		}
	})
}

// addStreams calls add with some streams of clients.
func addStreams(add func(stream []byte)) {
	for _, s := range []string{
		frame(finText, 5) + frame(1, 3) + frame(finPing, 1) + frame(finCont, 2),
		masked(1, "hel") + masked(finPing, "ping") + masked(finCont, "lo") + masked(finText, ""),
		masked(finBit|opBinary, strings.Repeat("0123456789", 1000)) + masked(finText, "end"),
		frame(finText|0x40, 5),
		masked(finText, "a") + masked(finBit|opClose, "\x03\xe8bye") + "junk",
		"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x81\x05hello",
	} {
		add([]byte(s))
	}
}

// padding completes a header that the scanner has rejected early.
func padding(wrong *Violation) io.Reader {
	if wrong == nil {
		return bytes.NewReader(nil)
	}
	return bytes.NewReader(make([]byte, 14))
}

// hasCloseFrame reports whether p has a close frame among complete masked frames.
func hasCloseFrame(p []byte) bool {
	for len(p) >= 6 {
		n, head := uint64(p[1]&^maskBit), 6
		switch {
		case n == 126 && len(p) >= 8:
			n, head = uint64(binary.BigEndian.Uint16(p[2:])), 8
		case n == 127 && len(p) >= 14:
			n, head = binary.BigEndian.Uint64(p[2:]), 14
		case n > 125:
			return false
		}
		if p[0]&0x0F == opClose {
			return true
		}
		if uint64(len(p)-head) < n {
			return false
		}
		p = p[head+int(n):]
	}
	return false
}

func BenchmarkScanner(b *testing.B) {
	stream := []byte(strings.Repeat(frame(finText, 60), 32))
	s := NewScanner(1000, false)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		if _, wrong := scanAll(&s, stream); wrong != nil {
			b.Fatal(wrong)
		}
	}
}
