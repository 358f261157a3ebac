package integration_test

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wiretest"
)

// A second reading of RFC 6455, to compare the server with: everything in memory, one frame
// after the other, nothing for speed.

// The opcodes of section 5.2, and the bit that marks the last frame of a message.
const (
	opCont, opText, opBinary = 0x0, 0x1, 0x2
	opClose, opPing, opPong  = 0x8, 0x9, 0xA
	fin                      = 0x80
)

const (
	// What docs/PROTOCOL.md adds to the RFC.
	maxParts    = 1024 // of a message
	maxControls = 50   // pings and pongs at once
	maskSize    = 4
)

// ending is how a connection ends. The zero value: it does not.
type ending struct {
	cause  realtime.Cause
	code   realtime.CloseCode
	reason string // what the client gave; that of an error is the server's to choose
}

func closes(code realtime.CloseCode, reason string) ending {
	return ending{realtime.CauseClient, code, reason}
}

func fails(code realtime.CloseCode) ending { return ending{cause: realtime.CauseProtocol, code: code} }

// connectionLost is the end of a connection without a close frame.
var connectionLost = ending{cause: realtime.CauseLost, code: realtime.CloseLost}

// expectation is what has to come of what a client has sent.
type expectation struct {
	texts []string // the text messages that came whole
	count int      // messages of both kinds, and one that was no text but said so
	pongs []string // payloads of the pings to be answered
	end   ending
	rest  string // behind the end
	open  bool   // not looked at further: compressed data, which may hold anything
}

// chats returns what an application sees of the texts.
func (v *expectation) chats() (found []string) {
	for _, text := range v.texts {
		if content, ok := chatOf(text); ok {
			found = append(found, content)
		}
	}
	return found
}

// answers returns the messages that come back to a user whose chats come back to him.
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

// header is that of a frame, section 5.2, up to the mask.
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

// message is one that has begun.
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

// readReference reads what a client sends until the connection has to end. A message may have limit
// bytes; deflate says that permessage-deflate was agreed on.
func readReference(p string, limit int, deflate bool) (v expectation) {
	var m *message
	controls := 0
	for {
		if len(p) >= 2 && p[1]&0x80 == 0 { // section 5.1: however long it is
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
		behind := p[h.size:]
		if len(behind) < maskSize || uint64(len(behind)-maskSize) < h.payload {
			v.end = connectionLost
			return v
		}
		payload := unmask(behind[:maskSize], behind[maskSize:maskSize+int(h.payload)])
		p = behind[maskSize+len(payload):]

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

// fault returns the code for a header that must not be. m is the message that it would
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
	if deflate { // what cannot be compressed grows, so more may be announced
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

// closing is what a client's close frame leads to, sections 5.5.1 and 7.4.
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

// chatOf returns the text of a plain client's chat.
func chatOf(p string) (content string, ok bool) {
	members := wiretest.Members([]byte(p))
	content, ok = wiretest.String(members["content"])
	_, ok2 := wiretest.String(members["target"])
	return content, ok && ok2
}

// serverFrame is a frame of the server's.
type serverFrame struct {
	op      byte
	payload string
}

// serverFrames reads what the server has said. Every frame has come whole, is a message or a
// control frame of its own, not masked, not compressed, its length in as few bytes as can be.
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

// requireAnswers checks what the server has said to a user against what it has to say.
//
// Messages come in their order and all of them, unless the connection was cut, or ended by
// an error, which gives up what is still queued. Of the pongs the newest is enough (section
// 5.5.3), and they may overtake messages. The close frame is the last.
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
			require.Equal(t, len(frames)-1, i, "something behind the close frame")
			sent := closing(f.payload) // what holds for a client's holds for the server's too
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

// requireNewest checks that got is want without some, but with the last.
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
		require.NotEmpty(t, want, "pong %q was not asked for", pong)
		want = want[1:]
	}
}

// chat is what a plain client says to everybody. content goes in as it is.
func chat(content string) string { return `{"content":"` + content + `","target":"all"}` }

// sized returns the content of a chat that takes n bytes.
func sized(n int) string { return strings.Repeat("x", n-len(chat(""))) }

// TestReferenceMembers: what the comparisons stand on.
func TestReferenceMembers(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"a":[2],"b":"c"}`: `{"a":[1,[2]],"b":["c"]}`,
		`{}`:                      `{}`, `[]`: `null`, `{"a":1}}`: `null`, ``: `null`, `{"a":1,}`: `null`,
		strings.Repeat("[", 65): `null`,
		`{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`: `null`,
	} {
		got, err := json.Marshal(wiretest.Members([]byte(text)))
		require.NoError(t, err)
		require.Equal(t, want, string(got), text)
	}
}
