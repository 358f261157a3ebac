package integration_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// attack is one kind of abuse of a server.
type attack struct {
	name string
	run  func(*world)
	slow bool             // it takes long, so it runs in a bubble
	opts realtime.Options // if the attack needs options that are not the default
}

// Whatever an attacker does, the other members of the room receive each message once and in order,
// and in the end nothing is left of the attacker.
func TestAttacks(t *testing.T) {
	attacks := slices.Concat(frameAttacks(), deflateAttacks(), closeAttacks(), floodAttacks(),
		slowAttacks(), handshakeAttacks(), contentAttacks())
	for _, x := range attacks {
		t.Run(x.name, func(t *testing.T) {
			battle := func(t *testing.T, f network) {
				w := newWorld(t, x.opts, f)
				x.run(w)
				w.finish()
			}
			if x.slow {
				synctest.Test(t, func(t *testing.T) { battle(t, pipes()) })
			} else {
				battle(t, loopback(t))
			}
		})
	}
}

// scaled returns the number of participants of an attack with n in the long form. The short form
// has a tenth.
func scaled(n int) int { return long.Of(n/10, n, n) }

// ends is an attack with bytes that end the connection with the given code.
func ends(code realtime.CloseCode, bytes string) func(*world) {
	return func(w *world) {
		c := w.connect("mallory")
		go func() { _, _ = c.Write([]byte(bytes)) }()
		require.Equal(w.t, code, c.closed())
	}
}

// allocatesLittle is an attack during which the process allocates less than 8 MiB, including what
// the bystander and the speaker allocate.
func allocatesLittle(run func(*world)) func(*world) {
	return func(w *world) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(w)
		runtime.ReadMemStats(&after)
		require.Less(w.t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	}
}

// claim is the header of a frame that claims to have n bytes.
func claim(head byte, n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{head, 0xFF}, n)) + "\x00\x00\x00\x00"
}

const limit = 64 << 10 // of Limits.MessageBytes

func frameAttacks() []attack {
	return []attack{
		{name: "unmasked frame", run: ends(1002, "\x81\x01x")},
		{name: "RSV1", run: ends(1002, masked(0xC1, "x"))},
		{name: "RSV2", run: ends(1002, masked(0xA1, "x"))},
		{name: "RSV3", run: ends(1002, masked(0x91, "x"))},
		{name: "reserved data opcode", run: ends(1002, masked(0x83, "x"))},
		{name: "reserved control opcode", run: ends(1002, masked(0x8B, "x"))},
		{name: "long ping", run: ends(1002, masked(0x89, xs(126)))},
		{name: "fragmented ping", run: ends(1002, masked(0x09, "x")+masked(0x80, "y"))},
		{name: "claims 2^62 bytes", run: allocatesLittle(ends(1009, claim(0x81, 1<<62)))},
		{name: "2^62 bytes in fragments", run: allocatesLittle(ends(1009, masked(0x01, "x")+claim(0x80, 1<<62)))},
		{name: "claims 2^63 bytes", run: allocatesLittle(ends(1002, claim(0x81, 1<<63)))},
		{name: "claims one byte too many", run: allocatesLittle(ends(1009, claim(0x81, limit+1)))},
		{name: "one byte too many", run: ends(1009, masked(0x01, xs(limit))+masked(0x80, "x"))},
		{name: "binary above the limit", run: ends(1009, masked(0x82, xs(limit+1)))},
		{name: "invalid UTF-8", run: ends(1007, masked(0x81, "{\"content\":\"\xff\"}"))},
		{name: "half a character", run: ends(1007, masked(0x01, "\xe2\x82")+masked(0x80, "x"))},
		{name: "garbage", run: ends(1002, "garbage that is no frame at all")},
		{name: "a request after the upgrade", run: ends(1002, handshake("mallory"))},
		{name: "TLS after the upgrade", run: ends(1002, tlsHello)},
		{name: "nested JSON", run: ignored(strings.Repeat("[", limit))},
		{name: "nested content", run: ignored(`{"content":` + strings.Repeat("[", 60_000))},
		{name: "endless number", run: ignored(strings.Repeat("9", limit))},
		{name: "empty message", run: ignored("")},
		{name: "many members", run: ignored("{" + strings.Repeat(`"a":0,`, 10_000) + `"a":0}`)},
		{name: "binary", run: func(w *world) {
			c := w.connect("mallory")
			c.send(masked(0x82, `{"content":"binary","target":"room"}`) + chatFrame("text"))
			w.bystander.expect(w.t, "chat mallory: text")
		}},
		{name: "cut in every place", run: cutAnywhere},
		{name: "split in every place", run: splitAnywhere},
	}
}

// tlsHello is the start of a TLS handshake.
const tlsHello = "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"

func xs(n int) string { return strings.Repeat("x", n) }

// ignored is an attack with a message that has no effect. The message after it is delivered.
func ignored(message string) func(*world) {
	return func(w *world) {
		c := w.connect("mallory")
		c.send(strings.Repeat(masked(0x81, message), 10) + chatFrame("after"))
		w.bystander.expect(w.t, "chat mallory: after")
		require.EqualValues(w.t, 10, w.rt.Stats().Ignored)
	}
}

// cutAnywhere resets connections in the middle of a handshake and of frames.
func cutAnywhere(w *world) {
	all := handshake("mallory") + chatFrame("") + masked(0x89, "ping")
	err := together(len(all), func(i int) error {
		nc, err := w.dial()
		if err != nil {
			return err
		}
		if _, err := nc.Write([]byte(all[:i])); err != nil {
			return err
		}
		return reset(nc)
	})
	require.NoError(w.t, err)
	w.awaitEnd()
}

// splitAnywhere sends a handshake and frames in two packets, split at each position, and byte by
// byte.
func splitAnywhere(w *world) {
	shake := handshake("") // anonymous, so that the limit per user does not apply
	all := shake + masked(0x01, "pi") + masked(0x89, "x") + masked(0x80, "ng")
	for i := range len(all) {
		c := &frameClient{Conn: w.mustDial(), t: w.t}
		c.send(all[:i])
		early := i >= len(shake)
		if early { // the rest is sent after the answer
			c.readHandshake()
		} else {
			runtime.Gosched()
		}
		c.send(all[i:])
		if !early {
			c.readHandshake()
		}
		requireSplit(c)
	}
	c := &frameClient{Conn: w.mustDial(), t: w.t}
	for i := range len(all) {
		c.send(all[i : i+1])
	}
	c.readHandshake()
	requireSplit(c)
}

// requireSplit checks the answers to the frames of splitAnywhere.
func requireSplit(c *frameClient) {
	c.t.Helper()
	var pongs []string
	for len(pongs) < 2 {
		op, payload := readFrame(c.t, c.br)
		if op == 0xA || payload == "pong" {
			pongs = append(pongs, payload)
		}
	}
	require.ElementsMatch(c.t, []string{"x", "pong"}, pongs)
}

func deflateAttacks() []attack {
	small := bomb(16 << 20)
	attacks := []attack{
		{name: "256 MB in 260 KB", run: allocatesLittle(deflates(1009, masked(0xC1, bomb(256<<20))))},
		{name: "60 MB in 60 KB", run: allocatesLittle(deflates(1009, masked(0xC1, bomb(60<<20))))},
		{name: "bomb in fragments", run: allocatesLittle(deflates(1009, fragments(0x41, small, 100)))},
		{name: "many bombs", run: allocatesLittle(func(w *world) {
			for range 20 {
				deflates(1009, masked(0xC1, small))(w)
			}
		})},
		{name: "broken deflate data", run: deflates(1002, masked(0xC1, "\xff\xff\xff\xff"))},
		{name: "cut deflate data", run: deflates(1002, masked(0xC1, "\x00\x05\x00\xfa\xffab"))},
		{name: "a compressed continuation", run: deflates(1002, masked(0x01, "x")+masked(0xC0, "y"))},
		{name: "a compressed ping", run: deflates(1002, masked(0xC9, "x"))},
		{name: "deflate without negotiation", run: ends(1002, masked(0xC1, small))},
		{name: "endless offers", run: endlessOffers},
	}
	for i := range attacks {
		attacks[i].opts = compressing() // it is off by default
	}
	return attacks
}

// deflates is the same as ends, for a client that has negotiated compression.
func deflates(code realtime.CloseCode, bytes string) func(*world) {
	return func(w *world) {
		c := w.connect("mallory", "Sec-WebSocket-Extensions: "+browserOffer)
		require.Equal(w.t, accepted, c.extensions)
		go func() { _, _ = c.Write([]byte(bytes)) }()
		require.Equal(w.t, code, c.closed())
	}
}

// bomb is n bytes, compressed to a thousandth.
func bomb(n int) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	_, _ = io.WriteString(w, xs(1<<20))
	_ = w.Flush() // so that the output can be repeated
	return strings.TrimSuffix(strings.Repeat(out.String(), n>>20), "\x00\x00\xff\xff")
}

// fragments is a message in n frames or a few more.
func fragments(head byte, payload string, n int) string {
	var frames strings.Builder
	for size := len(payload)/n + 1; len(payload) > size; payload = payload[size:] {
		frames.WriteString(masked(head, payload[:size]))
		head = 0x00
	}
	return frames.String() + masked(0x80, payload)
}

// endlessOffers offers extensions that take long to parse.
func endlessOffers(w *world) {
	for _, offer := range []string{
		strings.Repeat("permessage-deflate,", 500),
		strings.Repeat(";", 10_000), strings.Repeat(",", 10_000), strings.Repeat(`"`, 10_000),
		"permessage-deflate" + strings.Repeat("; client_max_window_bits=15", 300),
		"permessage-deflate; server_max_window_bits=" + strings.Repeat("9", 1000),
	} {
		c := w.connect("mallory", "Sec-WebSocket-Extensions: "+offer)
		c.send(chatFrame("open"))
		w.bystander.expect(w.t, "chat mallory: open")
	}
}
