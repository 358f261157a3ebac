package integration_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/realtime-go/realtime"
)

// frame is a frame of a client, with a mask.
func frame(head byte, payload string) string {
	size := 1
	if len(payload) > 0xFFFF {
		size = 8
	} else if len(payload) > 125 {
		size = 2
	}
	return longFrame(head, size, payload)
}

// longFrame is a frame with its length in 1, 2 or 8 bytes.
func longFrame(head byte, size int, payload string) string {
	p := []byte{head}
	switch n := uint64(len(payload)); size {
	case 1:
		p = append(p, 0x80|byte(n))
	case 2:
		p = binary.BigEndian.AppendUint16(append(p, 0x80|126), uint16(n))
	default:
		p = binary.BigEndian.AppendUint64(append(p, 0x80|127), n)
	}
	key := string([]byte{0x37, 0xFA, byte(len(payload)), 0x3D})
	return string(p) + key + unmask(key, payload)
}

// announce is the header of a frame of n bytes, without the mask.
func announce(head byte, n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{head, 0x80 | 127}, n))
}

func text(p string) string { return frame(fin|opText, p) }

func blob(p string) string { return frame(fin|opBinary, p) }

func ping(p string) string { return frame(fin|opPing, p) }

func pong(p string) string { return frame(fin|opPong, p) }

func closeFrame(code int, why string) string { return frame(fin|opClose, codeOf(code)+why) }

func codeOf(code int) string { return string([]byte{byte(code >> 8), byte(code)}) }

func say(content string) string { return text(chat(content)) }

func begin(p string) string { return frame(opText, p) }

func more(p string) string { return frame(opCont, p) }

func last(p string) string { return frame(fin|opCont, p) }

func list(s ...string) []string { return s }

func joined(pieces ...string) string { return strings.Join(pieces, "") }

func repeat(n int, f func(int) string) (s string) {
	for i := range n {
		s += f(i)
	}
	return s
}

// inPieces is a text message in frames of n bytes.
func inPieces(p string, n int) string {
	var s strings.Builder
	s.WriteString(begin(p[:n]))
	for p = p[n:]; len(p) > n; p = p[n:] {
		s.WriteString(more(p[:n]))
	}
	return s.String() + last(p)
}

// lengths are the cases of group 1: framing.
func lengths() (cases []rfcCase) {
	cases = append(cases, rfcCase{name: "text of 0 bytes", in: text("")}) // an empty text is no message of the plain protocol
	for _, n := range []int{125, 126, 127, 128, 65535, 65536} {
		cases = append(cases, rfcCase{
			name: fmt.Sprintf("text of %d bytes", n), in: say(sized(n)), hears: list(sized(n)),
		})
	}
	// The plain protocol has no binary messages. They are ignored.
	for _, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		cases = append(cases, rfcCase{
			name: fmt.Sprintf("binary of %d bytes", n), in: blob(strings.Repeat("\xfe", n)),
		})
	}
	// Section 5.2: "the minimal number of bytes MUST be used to encode the length". The sender must
	// do so. The RFC does not say what a receiver does otherwise, and the length is unambiguous.
	// Leniency: the frame is accepted.
	for _, c := range []struct{ n, size int }{{29, 2}, {125, 2}, {125, 8}, {126, 8}, {65535, 8}} {
		cases = append(cases, rfcCase{
			name:  fmt.Sprintf("length %d in %d bytes", c.n, c.size),
			in:    longFrame(fin|opText, c.size, chat(sized(c.n))),
			hears: list(sized(c.n)),
		})
	}
	return append(cases,
		rfcCase{name: "length 0 in 8 bytes", in: longFrame(fin|opText, 8, "")},
		rfcCase{
			name: "ping with its length in 2 and in 8 bytes", in: longFrame(fin|opPing, 2, "a") +
				longFrame(fin|opPing, 8, strings.Repeat("b", 125)),
			pongs: list("a", strings.Repeat("b", 125)),
		},
	)
}

// limits has frames that are too long. They are refused before their payload arrives. Nothing
// follows these headers.
func limits() []rfcCase {
	half := strings.Repeat("x", maxMessage/2)
	return []rfcCase{
		{name: "limit - 1", in: say(sized(maxMessage - 1)), hears: list(sized(maxMessage - 1))},
		{name: "limit in fragments", in: inPieces(chat(sized(maxMessage)), maxMessage/2), hears: list(sized(maxMessage))},
		{name: "limit + 1", in: say(sized(maxMessage + 1)), end: fails(1009)},
		{name: "limit + 1, announced", in: announce(fin|opText, maxMessage+1), end: fails(1009)},
		{name: "limit + 1, announced, binary", in: announce(fin|opBinary, maxMessage+1), end: fails(1009)},
		{name: "limit + 1, announced, after a text", in: say("a") + announce(opText, maxMessage+1), hears: list("a"), end: fails(1009)},
		{name: "limit + 1 in fragments", in: begin(half) + more(half) + last("x"), end: fails(1009)},
		{name: "limit + 1 in fragments, announced", in: begin(half) + more(half) + last("x")[:2], end: fails(1009)},
		{name: "limit in fragments, and an empty one", in: begin(half) + more(half) + ping("p") + last(""), pongs: list("p")},
		{name: "2^31", in: announce(fin|opText, 1<<31), end: fails(1009)},
		{name: "2^32", in: announce(fin|opText, 1<<32), end: fails(1009)},
		{name: "2^62", in: announce(fin|opText, 1<<62), end: fails(1009)},
		{name: "2^63 - 1", in: announce(fin|opText, 1<<63-1), end: fails(1009)},
		{name: "2^63 - 1 as continuation", in: begin("x") + announce(fin|opCont, 1<<63-1), end: fails(1009)},
		// Section 5.2: "the most significant bit MUST be 0".
		{name: "2^63", in: announce(fin|opText, 1<<63), end: fails(1002)},
		{name: "2^64 - 1", in: announce(fin|opText, 1<<64-1), end: fails(1002)},
		{name: "2^64 - 1 as continuation", in: begin("x") + announce(fin|opCont, 1<<64-1), end: fails(1002)},
		{name: "2^63 for a ping", in: announce(fin|opPing, 1<<63), end: fails(1002)},
	}
}

// pingsAndPongs are the cases of group 2, of sections 5.5.2 and 5.5.3.
func pingsAndPongs() []rfcCase {
	full, over := strings.Repeat("x", 125), strings.Repeat("x", 126)
	odd := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	numbered := func(i int) string { return fmt.Sprint("p", i) }
	return []rfcCase{
		{name: "ping without payload", in: ping(""), pongs: list("")},
		{name: "ping with a text", in: ping("Hello, world!"), pongs: list("Hello, world!")},
		{name: "ping with bytes that are no text", in: ping(odd), pongs: list(odd)},
		{name: "ping of 125 bytes", in: ping(full), pongs: list(full)},
		{name: "ping of 126 bytes", in: ping(over), end: fails(1002)},
		{name: "ping of 126 bytes, announced", in: ping(over)[:4], end: fails(1002)},
		{name: "ping of 64 KiB, announced", in: announce(fin|opPing, 1<<16), end: fails(1002)},
		{name: "pong nobody asked for", in: pong("")},
		{name: "pong nobody asked for, with payload", in: pong("unsolicited")},
		{name: "pong of 125 bytes", in: pong(full)},
		{name: "pong of 126 bytes", in: pong(over), end: fails(1002)},
		{name: "pong, and then a ping", in: pong("unsolicited") + ping("solicited"), pongs: list("solicited")},
		// An endpoint "MAY elect to send a Pong frame for only the most recently processed Ping".
		{
			name: "10 pings at once", in: repeat(10, func(i int) string { return ping(numbered(i)) }),
			pongs: list("p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"),
		},
		{
			name: "pings between texts", in: ping("1") + say("a") + ping("2") + say("b"),
			hears: list("a", "b"), pongs: list("1", "2"),
		},
	}
}

// reservedBits are the cases of group 3, of section 5.2.
func reservedBits() (cases []rfcCase) {
	for bits := byte(1); bits < 8; bits++ {
		head := fin | bits<<4
		cases = append(cases, rfcCase{
			name: fmt.Sprintf("RSV %03b after a text", bits),
			in:   say("a") + frame(head|opText, chat("b")) + ping(""), hears: list("a"), end: fails(1002),
		})
		if bits&(bits-1) != 0 {
			continue
		}
		for name, in := range map[string]string{
			"binary":                frame(head|opBinary, "x"),
			"continuation":          begin("x") + frame(head|opCont, "x"),
			"ping":                  frame(head|opPing, "x"),
			"pong":                  frame(head|opPong, "x"),
			"close":                 frame(head|opClose, codeOf(1000)),
			"first of fragments":    frame(bits<<4|opText, "x") + last("x"),
			"header and no payload": frame(head|opText, "")[:2],
		} {
			cases = append(cases, rfcCase{
				name: fmt.Sprintf("RSV %03b, %s", bits, name), in: in, end: fails(1002),
			})
		}
	}
	return cases
}

// negotiatedBits has cases of RFC 7692 section 6, which gives the first bit a meaning in the first
// frame of a message only.
func negotiatedBits(t testing.TB) []rfcCase {
	const rsv1, rsv2, rsv3 = 0x40, 0x20, 0x10
	compressed := deflate(t, chat("a"))
	cases := []rfcCase{
		{name: "text that is compressed", in: frame(fin|rsv1|opText, compressed), hears: list("a")},
		{name: "text that is not", in: say("a"), hears: list("a")},
		{name: "binary that is compressed", in: frame(fin|rsv1|opBinary, compressed)},
		{
			name:  "fragments of a text that is compressed",
			in:    frame(rsv1|opText, compressed[:5]) + ping("p") + more("") + last(compressed[5:]),
			hears: list("a"), pongs: list("p"),
		},
		{name: "compressed, not UTF-8", in: frame(fin|rsv1|opText, deflate(t, "\xff")), end: fails(1007)},
		{name: "compressed, limit + 1", in: frame(fin|rsv1|opText, deflate(t, chat(sized(maxMessage+1)))), end: fails(1009)},
		{name: "RSV1 on a continuation", in: frame(rsv1|opText, compressed[:5]) + frame(fin|rsv1|opCont, compressed[5:]), end: fails(1002)},
		{name: "RSV1 on a ping", in: frame(fin|rsv1|opPing, ""), end: fails(1002)},
		{name: "RSV1 on a pong", in: frame(fin|rsv1|opPong, ""), end: fails(1002)},
		{name: "RSV1 on a close", in: frame(fin|rsv1|opClose, ""), end: fails(1002)},
		{name: "RSV2", in: frame(fin|rsv2|opText, compressed), end: fails(1002)},
		{name: "RSV3", in: frame(fin|rsv3|opText, compressed), end: fails(1002)},
		{name: "RSV1 and RSV2", in: frame(fin|rsv1|rsv2|opText, compressed), end: fails(1002)},
	}
	for i := range cases {
		cases[i].name = "negotiated: " + cases[i].name
		cases[i].deflate = true
	}
	return cases
}

// opcodes are the cases of group 4, reserved opcodes, of section 5.2.
func opcodes() (cases []rfcCase) {
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		cases = append(cases,
			rfcCase{name: fmt.Sprintf("opcode %d", op), in: frame(fin|op, ""), end: fails(1002)},
			rfcCase{
				name: fmt.Sprintf("opcode %d after a text", op),
				in:   say("a") + frame(fin|op, chat("b")) + ping(""), hears: list("a"), end: fails(1002),
			},
		)
	}
	return append(cases,
		rfcCase{name: "opcode 3 inside a message", in: begin("a") + frame(fin|3, "b"), end: fails(1002)},
		rfcCase{name: "opcode 11 inside a message", in: begin("a") + frame(fin|11, "b"), end: fails(1002)},
	)
}

// fragmentation has cases of group 5, of section 5.4.
func fragmentation() []rfcCase {
	hi := chat("fragments")
	empty := func(int) string { return more("") }
	return []rfcCase{
		{name: "ping in two fragments", in: frame(opPing, "a") + last("b"), end: fails(1002)},
		{name: "pong in two fragments", in: frame(opPong, "a") + last("b"), end: fails(1002)},
		{name: "close in two fragments", in: frame(opClose, codeOf(1000)) + last("b"), end: fails(1002)},
		{name: "text in two fragments", in: begin(hi[:9]) + last(hi[9:]), hears: list("fragments")},
		{name: "text in fragments of one byte", in: inPieces(hi, 1), hears: list("fragments")},
		{name: "64 KiB in fragments of 997 bytes", in: inPieces(chat(sized(maxMessage)), 997), hears: list(sized(maxMessage))},
		{name: "binary in two fragments", in: frame(opBinary, "\xff") + last("\xfe")},
		{name: "empty fragments", in: begin("") + more("") + last("")},
		{name: "empty fragments around a text", in: begin("") + more(hi) + more("") + last(""), hears: list("fragments")},
		{name: "empty fragments inside a text", in: begin(hi[:9]) + more("") + more("") + last(hi[9:]), hears: list("fragments")},
		{name: "empty last fragment", in: begin(hi) + last(""), hears: list("fragments")},
		{name: "two messages in fragments", in: inPieces(chat("a"), 7) + inPieces(chat("b"), 11), hears: list("a", "b")},
		// docs/PROTOCOL.md allows 1,024. The RFC leaves the limit to the server (section 10.4).
		{name: "1,024 fragments", in: begin(hi) + repeat(1022, empty) + last(""), hears: list("fragments")},
		{name: "1,025 fragments", in: begin(hi) + repeat(1023, empty) + last(""), end: fails(1008)},
		{name: "1,025 fragments, binary", in: frame(opBinary, "") + repeat(1024, empty), end: fails(1008)},
	}
}

// interleaving has cases of group 5: control frames between fragments.
func interleaving() []rfcCase {
	hi := chat("fragments")
	return []rfcCase{
		{name: "ping between fragments", in: begin(hi[:9]) + ping("p") + last(hi[9:]), hears: list("fragments"), pongs: list("p")},
		{name: "pong between fragments", in: begin(hi[:9]) + pong("p") + last(hi[9:]), hears: list("fragments")},
		{
			name:  "pings between five fragments",
			in:    joined(begin(hi[:3]), ping("1"), more(hi[3:6]), ping("2"), more(hi[6:9]), more(hi[9:12]), ping("3"), last(hi[12:])),
			hears: list("fragments"), pongs: list("1", "2", "3"),
		},
		{name: "ping in the middle of a character", in: begin(chat("\xc3")[:13]) + ping("p") + last("\xa4"+chat("")[12:]), hears: list("ä"), pongs: list("p")},
		{name: "close between fragments", in: begin(hi[:9]) + closeFrame(1000, "enough"), end: closes(1000, "enough")},
		{name: "last fragment of nothing", in: last("x"), end: fails(1002)},
		{name: "fragment of nothing", in: more("x"), end: fails(1002)},
		{name: "fragment of nothing, and then a text", in: last("x") + say("a"), end: fails(1002)},
		{name: "empty fragment of nothing", in: last(""), end: fails(1002)},
		{name: "fragment after a text", in: say("a") + last("x"), hears: list("a"), end: fails(1002)},
		{name: "fragment after fragments", in: inPieces(hi, 9) + more("x"), hears: list("fragments"), end: fails(1002)},
		{name: "fragment after a ping", in: ping("p") + last("x"), pongs: list("p"), end: fails(1002)},
		{name: "text inside a message", in: begin(hi[:9]) + say("a"), end: fails(1002)},
		{name: "binary inside a message", in: begin(hi[:9]) + blob("a"), end: fails(1002)},
		{name: "text inside a binary message", in: frame(opBinary, "a") + say("b"), end: fails(1002)},
		{name: "message in fragments inside another", in: begin(hi[:9]) + begin(hi[9:]), end: fails(1002)},
		{name: "text inside a message, after a text", in: say("a") + begin("b") + text(""), hears: list("a"), end: fails(1002)},
	}
}

// validText has cases of group 6: text is UTF-8, section 8.1 and RFC 3629.
func validText() (cases []rfcCase) {
	for name, word := range map[string]string{
		"greek":                    "κόσμε",
		"mixed":                    "Hello-µ@ßöäüàá-UTF-8!!",
		"U+007F":                   "\x7f",
		"U+0080":                   "\xc2\x80",
		"U+07FF":                   "\xdf\xbf",
		"U+0800":                   "\xe0\xa0\x80",
		"U+D7FF":                   "\xed\x9f\xbf",
		"U+E000":                   "\xee\x80\x80",
		"U+FEFF, the byte order":   "\xef\xbb\xbf",
		"U+FFFD, the replacement":  "\xef\xbf\xbd",
		"U+FFFE, not a character":  "\xef\xbf\xbe",
		"U+FFFF, not a character":  "\xef\xbf\xbf",
		"U+10000":                  "\xf0\x90\x80\x80",
		"U+1FFFE, not a character": "\xf0\x9f\xbf\xbe",
		"U+10FFFF":                 "\xf4\x8f\xbf\xbf",
	} {
		cases = append(cases,
			rfcCase{name: "UTF-8: " + name, in: say(word), hears: list(word)},
			rfcCase{name: "UTF-8 in fragments: " + name, in: inPieces(chat(word), 1), hears: list(word)},
		)
	}
	// The plain protocol does not have such a message. The connection stays open.
	return append(cases, rfcCase{name: "UTF-8: U+0000", in: text("\x00")})
}

// invalidText has texts that end a connection with 1007. Leniency: the server may check the
// complete message, and need not do so at the first wrong byte. The RFC does not say.
func invalidText() (cases []rfcCase) {
	for name, bad := range map[string]string{
		"continuation byte":         "\x80",
		"last continuation byte":    "\xbf",
		"seven continuation bytes":  "\x80\xbf\x80\xbf\x80\xbf\x80",
		"first of two bytes":        "\xc3",
		"first of three bytes":      "\xe2 ",
		"two of three bytes":        "\xe2\x82",
		"three of four bytes":       "\xf0\x9f\x98",
		"U+0000 in two bytes":       "\xc0\x80",
		"U+002F in two bytes":       "\xc0\xaf",
		"U+007F in two bytes":       "\xc1\xbf",
		"U+002F in three bytes":     "\xe0\x80\xaf",
		"U+07FF in three bytes":     "\xe0\x9f\xbf",
		"U+002F in four bytes":      "\xf0\x80\x80\xaf",
		"U+FFFF in four bytes":      "\xf0\x8f\xbf\xbf",
		"five bytes":                "\xf8\x88\x80\x80\x80",
		"six bytes":                 "\xfc\x84\x80\x80\x80\x80",
		"U+D800, a surrogate":       "\xed\xa0\x80",
		"U+DFFF, a surrogate":       "\xed\xbf\xbf",
		"surrogate pair":            "\xed\xa0\xbd\xed\xb8\x80",
		"U+110000, too large":       "\xf4\x90\x80\x80",
		"U+1FFFFF, too large":       "\xf7\xbf\xbf\xbf",
		"FE":                        "\xfe",
		"FF":                        "\xff",
		"a surrogate after letters": "κόσμε\xed\xa0\x80edited",
	} {
		cases = append(cases,
			rfcCase{name: "not UTF-8: " + name, in: say("a") + say(bad), hears: list("a"), end: fails(1007)},
			rfcCase{name: "not UTF-8, in fragments: " + name, in: inPieces(chat(bad), 1), end: fails(1007)},
		)
	}
	return append(cases,
		rfcCase{name: "half a character at the end", in: text("\xce\xba\xe1"), end: fails(1007)},
		rfcCase{name: "good, bad, good fragments", in: begin("a") + more("\xff") + last("b"), end: fails(1007)},
		rfcCase{name: "bad fragment, ping, good fragment", in: begin("\xff") + ping("p") + last("b"), pongs: list("p"), end: fails(1007)},
		rfcCase{name: "half a character, empty fragment", in: begin("\xc3") + last(""), end: fails(1007)},
		rfcCase{name: "bytes after it do not count", in: text("\xff") + say("a") + ping("p") + closeFrame(1000, ""), end: fails(1007)},
		rfcCase{name: "binary that is not UTF-8", in: blob("\xff") + frame(opBinary, "\xc3") + last("")},
		rfcCase{name: "bad fragment, and never the last", in: begin("\xff") + more("a"), end: connectionLost},
	)
}

// closeFrames are the cases of group 7, of sections 5.5.1 and 7.
func closeFrames() []rfcCase {
	full := strings.Repeat("y", 123)
	big := sized(maxMessage)
	return []rfcCase{
		{name: "close after a text", in: say("a") + closeFrame(1000, ""), hears: list("a"), end: closes(1000, "")},
		{name: "two close frames", in: closeFrame(1000, "1") + closeFrame(1001, "2"), end: closes(1000, "1")},
		{name: "ping after a close", in: closeFrame(1000, "") + ping("p"), end: closes(1000, "")},
		{name: "text after a close", in: closeFrame(1000, "") + say("a"), end: closes(1000, "")},
		{name: "large text after a close", in: closeFrame(1000, "") + say(big), end: closes(1000, "")},
		{name: "garbage after a close", in: closeFrame(1000, "") + "\xff\xff\xff", end: closes(1000, "")},
		{name: "bad frame after a close", in: closeFrame(1000, "") + "\x8f\x80", end: closes(1000, "")},
		{name: "large text, close, ping", in: say(big) + closeFrame(1000, "") + ping("p"), hears: list(big), end: closes(1000, "")},
		{name: "ping, close", in: ping("p") + closeFrame(1000, ""), pongs: list("p"), end: closes(1000, "")},
		{name: "close inside a message, and its end", in: begin("a") + closeFrame(1000, "") + last("b"), end: closes(1000, "")},
		{name: "close without payload", in: frame(fin|opClose, ""), end: closes(1005, "")},
		{name: "close with half a code", in: frame(fin|opClose, "\x03"), end: fails(1002)},
		{name: "close with a code", in: closeFrame(1000, ""), end: closes(1000, "")},
		{name: "close with a reason", in: closeFrame(1000, "Hello World!"), end: closes(1000, "Hello World!")},
		{name: "close with a reason in greek", in: closeFrame(4000, "κόσμε"), end: closes(4000, "κόσμε")},
		{name: "close with a reason of 123 bytes", in: closeFrame(1000, full), end: closes(1000, full)},
		{name: "close with a reason of 124 bytes", in: closeFrame(1000, full+"y"), end: fails(1002)},
		{name: "close of 64 KiB, announced", in: announce(fin|opClose, 1<<16), end: fails(1002)},
		{name: "reason is not UTF-8", in: closeFrame(1000, "κόσμε\xed\xa0\x80edited"), end: fails(1007)},
		{name: "reason ends inside a character", in: closeFrame(1000, "\xc3"), end: fails(1007)},
		{name: "neither code nor reason are valid", in: closeFrame(1005, "\xff"), end: fails(1002)},
	}
}

// closeCodes are the close codes that may be sent, and those that may not, of section 7.4.
func closeCodes() (cases []rfcCase) {
	// Section 7.4.1, the codes that IANA has registered since (1012 to 1014), and the ranges of
	// 7.4.2.
	for _, code := range []int{
		1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
	} {
		cases = append(cases, rfcCase{
			name: fmt.Sprint("code ", code), in: closeFrame(code, "why"),
			end: closes(realtime.CloseCode(code), "why"),
		})
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases,
			rfcCase{name: fmt.Sprint("code ", code), in: closeFrame(code, ""), end: fails(1002)},
			rfcCase{name: fmt.Sprint("code ", code, " with a reason"), in: closeFrame(code, "why"), end: fails(1002)},
		)
	}
	return cases
}

// masks are the cases of section 5.1: "The server MUST close the connection upon receiving a frame
// that is not masked."
func masks() []rfcCase {
	return []rfcCase{
		{name: "mask of zeros", in: masked(fin|opText, chat("a")), hears: list("a")},
		{name: "text that is not masked", in: "\x81\x05Hello", end: fails(1002)},
		{name: "empty text that is not masked", in: "\x81\x00", end: fails(1002)},
		{name: "long text that is not masked", in: "\x81\x7e\x01\x00" + strings.Repeat("x", 256), end: fails(1002)},
		{name: "binary that is not masked", in: "\x82\x01x", end: fails(1002)},
		{name: "ping that is not masked", in: "\x89\x00", end: fails(1002)},
		{name: "pong that is not masked", in: "\x8a\x00", end: fails(1002)},
		{name: "close that is not masked", in: "\x88\x02" + codeOf(1000), end: fails(1002)},
		{name: "continuation that is not masked", in: begin("a") + "\x80\x01b", end: fails(1002)},
		{name: "not masked, after a text", in: say("a") + ping("p") + "\x81\x05Hello" + say("b"), hears: list("a"), pongs: list("p"), end: fails(1002)},
	}
}

// broken are connections that end without a close frame: section 7.1.5, "Code 1006".
func broken() []rfcCase {
	whole := say("a")
	return []rfcCase{
		{name: "nothing at all", end: connectionLost},
		{name: "broken after a text", in: whole, hears: list("a"), end: connectionLost},
		{name: "broken inside a header", in: whole + "\x81", hears: list("a"), end: connectionLost},
		{name: "broken inside a length", in: announce(fin|opText, 500)[:7], end: connectionLost},
		{name: "broken inside a mask", in: whole[:4], end: connectionLost},
		{name: "broken before the payload", in: whole[:6], end: connectionLost},
		{name: "broken before the last byte", in: whole[:len(whole)-1], end: connectionLost},
		{name: "broken between fragments", in: begin(chat("a")), end: connectionLost},
		{name: "broken inside a ping", in: ping("hello")[:8], end: connectionLost},
		{name: "broken inside a close", in: closeFrame(1000, "bye")[:8], end: connectionLost},
	}
}

func rfcCases(t testing.TB) []rfcCase {
	return slices.Concat(
		lengths(), limits(), pingsAndPongs(), reservedBits(), negotiatedBits(t), opcodes(),
		fragmentation(), interleaving(), validText(), invalidText(), closeFrames(), closeCodes(),
		masks(), broken(),
	)
}

// rfcCase is a client that sends the bytes of in, and the behaviour that RFC 6455 requires. The
// groups are those of the Autobahn test suite.
//
// Without an end, the connection stays open: another message is answered.
type rfcCase struct {
	name    string
	in      string
	hears   []string // contents of the delivered chats, in order
	pongs   []string
	end     ending
	deflate bool // permessage-deflate was negotiated
}

const (
	maxMessage = 64 << 10 // the default of Limits.MessageBytes
	offerLine  = "Sec-WebSocket-Extensions: " + browserOffer + "\r\n"
)
