package integration_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wiretest"
)

// The reference model is a second implementation of RFC 6455, with which the server is compared:
// everything in memory, one frame after the other, and not optimised.

// The opcodes of section 5.2, and the bit that marks the last frame of a message.
const (
	opCont, opText, opBinary = 0x0, 0x1, 0x2
	opClose, opPing, opPong  = 0x8, 0x9, 0xA
	fin                      = 0x80
)

const (
	// Limits of docs/PROTOCOL.md.
	maxParts    = 1024 // of a message
	maxControls = 50   // pings and pongs in a burst
	maskSize    = 4
)

// ending is the end of a connection. The zero value means that it stays open.
type ending struct {
	cause  realtime.Cause
	code   realtime.CloseCode
	reason string // of the client; the server may choose the reason of an error
}

func closes(code realtime.CloseCode, reason string) ending {
	return ending{realtime.CauseClient, code, reason}
}

func fails(code realtime.CloseCode) ending { return ending{cause: realtime.CauseProtocol, code: code} }

// connectionLost is the end of a connection without a close frame.
var connectionLost = ending{cause: realtime.CauseLost, code: realtime.CloseLost}

// expectation is what the server must do with the bytes of a client.
type expectation struct {
	texts []string // complete text messages
	count int      // messages of both kinds, and one that is not UTF-8
	pongs []string // payloads of the pings to be answered
	end   ending
	rest  string // bytes after the end
	open  bool   // the model stops at compressed data
}

// chats returns the chats that an application receives.
func (v *expectation) chats() (found []string) {
	for _, text := range v.texts {
		if content, ok := chatOf(text); ok {
			found = append(found, content)
		}
	}
	return found
}

// answers returns the frames for a user that receives its own chats.
func (v *expectation) answers(user string) (found []string) {
	for _, text := range v.texts {
		if text == "ping" {
			found = append(found, "pong")
		} else if content, ok := chatOf(text); ok {
			found = append(found, user+": "+content)
		}
	}
	return found
}

// header is the header of a frame, section 5.2, without the mask.
type header struct {
	fin, masked bool
	rsv, op     byte
	payload     uint64 // bytes
	size        int    // of the header itself
}

func parseHeader(p string) (h header, whole bool) {
	if len(p) < 2 {
		return header{}, false
	}
	h = header{
		fin: p[0]&0x80 != 0, rsv: p[0] >> 4 & 7, op: p[0] & 0xF,
		masked: p[1]&0x80 != 0, payload: uint64(p[1] & 0x7F), size: 2,
	}
	extended := map[uint64]int{126: 2, 127: 8}[h.payload]
	if len(p) < 2+extended {
		return header{}, false
	}
	switch h.size += extended; extended {
	case 2:
		h.payload = uint64(binary.BigEndian.Uint16([]byte(p[2:])))
	case 8:
		h.payload = binary.BigEndian.Uint64([]byte(p[2:]))
	}
	return h, true
}

// message is an incomplete message.
type message struct {
	op    byte
	parts int
	data  string
}

// with is the size of the message with n more bytes; m may be nil.
func (m *message) with(n uint64) uint64 {
	if m == nil {
		return n
	}
	return n + uint64(len(m.data))
}

// readReference reads the bytes of a client until the connection has to end. limit is the maximum
// size of a message; deflate means that permessage-deflate was negotiated.
func readReference(p string, limit int, deflate bool) (v expectation) {
	var m *message
	controls := 0
	for {
		if len(p) >= 2 && p[1]&0x80 == 0 { // section 5.1: for any length
			v.end, v.rest = fails(1002), p
			return v
		}
		h, whole := parseHeader(p)
		if !whole {
			v.end = connectionLost
			return v
		}
		if code := h.fault(m, limit, deflate); code != 0 {
			v.end, v.rest = fails(code), p
			return v
		}
		if v.open = h.rsv != 0 || h.op < opClose && m.with(h.payload) > uint64(limit); v.open {
			return v
		}
		after := p[h.size:]
		if len(after) < maskSize || uint64(len(after)-maskSize) < h.payload {
			v.end = connectionLost
			return v
		}
		payload := unmask(after[:maskSize], after[maskSize:maskSize+int(h.payload)])
		p = after[maskSize+len(payload):]

		switch h.op {
		case opClose:
			v.end, v.rest = closing(payload), p
			return v
		case opPing, opPong:
			if controls++; controls > maxControls {
				v.end, v.rest = ending{realtime.CauseRate, 1008, ""}, p
				return v
			}
			if h.op == opPing {
				v.pongs = append(v.pongs, payload)
			}
			continue
		case opText, opBinary:
			m = &message{op: h.op}
		}
		m.parts++
		m.data += payload
		if !h.fin {
			continue
		}
		v.count++
		switch {
		case m.op == opText && !utf8.ValidString(m.data): // section 8.1
			v.end, v.rest = fails(1007), p
			return v
		case m.op == opText:
			v.texts = append(v.texts, m.data)
		}
		m = nil
	}
}

// fault returns the close code for an invalid header, or 0. m is the message that the frame would
// continue, or nil.
func (h *header) fault(m *message, limit int, deflate bool) realtime.CloseCode {
	first := h.op == opText || h.op == opBinary
	switch {
	case h.rsv != 0 && !(deflate && first && h.rsv == 4), // 5.2, and RFC 7692 section 6
		h.payload >= 1<<63,
		h.op > opBinary && h.op < opClose || h.op > opPong, // reserved
		h.op >= opClose && (!h.fin || h.payload > 125),     // 5.5
		first && m != nil, // 5.4
		h.op == opCont && m == nil:
		return 1002
	case h.op >= opClose:
		return 0
	}
	most := uint64(limit)
	if deflate { // data that cannot be compressed grows, so the limit is higher
		most += most/1024 + 64
	}
	switch {
	case m != nil && m.parts == maxParts:
		return 1008
	case m.with(h.payload) > most:
		return 1009
	}
	return 0
}

func unmask(key, p string) string {
	out := []byte(p)
	for i := range out {
		out[i] ^= key[i%maskSize]
	}
	return string(out)
}

// closing is the end that the close frame of a client leads to, sections 5.5.1 and 7.4.
func closing(payload string) ending {
	if payload == "" {
		return closes(realtime.CloseNone, "")
	}
	if len(payload) == 1 {
		return fails(1002)
	}
	code := realtime.CloseCode(payload[0])<<8 | realtime.CloseCode(payload[1])
	switch {
	case code < 1000, code == 1004, code == 1005, code == 1006, code > 1014 && code < 3000, code > 4999:
		return fails(1002)
	case !utf8.ValidString(payload[2:]):
		return fails(1007)
	}
	return closes(code, payload[2:])
}

// chatOf returns the text of a chat of the plain protocol that a handler gets: there may be a user
// with the name of its target.
func chatOf(p string) (content string, ok bool) {
	members := wiretest.Members([]byte(p))
	content, ok = wiretest.String(members["content"])
	target, ok2 := wiretest.String(members["target"])
	return content, ok && ok2 && validNameReference(target)
}

// serverFrame is a frame of the server.
type serverFrame struct {
	op      byte
	payload string
}

// serverFrames reads the frames of the server. Each must be complete, a whole message or a control
// frame, not masked, not compressed, and have the shortest form of its length.
func serverFrames(t *testing.T, p string) (frames []serverFrame) {
	t.Helper()
	for len(p) > 0 {
		h, whole := parseHeader(p)
		require.True(t, whole, "half a header: %q", p)
		require.LessOrEqual(t, h.payload, uint64(len(p)-h.size), "half a frame")
		require.True(t, h.fin && !h.masked && h.rsv == 0, "%+v", h)
		size := 2
		if h.payload > 0xFFFF {
			size = 10
		} else if h.payload > 125 {
			size = 4
		}
		require.Equal(t, size, h.size)
		require.False(t, h.op >= opClose && h.payload > 125, "%+v", h)
		end := h.size + int(h.payload)
		frames = append(frames, serverFrame{h.op, p[h.size:end]})
		p = p[end:]
	}
	return frames
}

// requireAnswers checks the frames that the server has sent to a user.
//
// All messages arrive in order, unless the connection was lost, or ended by an error, which
// discards the queue. Of the pongs the newest is sufficient (section 5.5.3), and they may overtake
// messages. The close frame is the last.
func (v *expectation) requireAnswers(t *testing.T, user string, frames []serverFrame) {
	t.Helper()
	var texts, pongs []string
	said := ending{cause: v.end.cause, code: realtime.CloseLost}
	for i, f := range frames {
		switch f.op {
		case opText:
			texts = append(texts, shorthand(t, f.payload))
		case opPong:
			pongs = append(pongs, f.payload)
		case opClose:
			require.Equal(t, len(frames)-1, i, "bytes after the close frame")
			sent := closing(f.payload) // the rules for the close frames of clients hold for the server too
			require.Equal(t, realtime.CauseClient, sent.cause, "%q", f.payload)
			said.code, said.reason = sent.code, sent.reason
		default:
			require.Fail(t, "unexpected frame", "%+v", f)
		}
	}
	if v.end.cause != realtime.CauseClient {
		said.reason = ""
	}
	require.Equal(t, v.end, said)
	if len(texts) > 0 {
		require.Equal(t, "welcome", texts[0])
		texts = texts[1:]
	}
	want := v.answers(user)
	if v.end.cause != realtime.CauseClient {
		want = want[:min(len(texts), len(want))]
	}
	require.True(t, slices.Equal(want, texts), "%.300q, not %.300q", texts, want)
	requireNewest(t, v.pongs, pongs, v.end.cause != realtime.CauseLost)
}

// requireNewest checks that got is a part of want and, if last is set, contains its last element.
func requireNewest(t *testing.T, want, got []string, last bool) {
	t.Helper()
	if last && len(want) > 0 {
		require.NotEmpty(t, got, "no pong for %q", want)
		require.Equal(t, want[len(want)-1], got[len(got)-1], "of %q the newest", want)
	}
	for _, pong := range got {
		for len(want) > 0 && want[0] != pong {
			want = want[1:]
		}
		require.NotEmpty(t, want, "pong %q without a ping", pong)
		want = want[1:]
	}
}

// chat is a chat to all in the plain protocol. content is inserted unchanged.
func chat(content string) string { return `{"content":"` + content + `","target":"all"}` }

// sized returns the content of a chat of n bytes.
func sized(n int) string { return strings.Repeat("x", n-len(chat(""))) }
