package wire

import (
	"strings"
	"testing"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// What clients usually send.
func BenchmarkDecode(b *testing.B) {
	text := strings.Repeat("hello, world ", 80)
	for _, bench := range []struct {
		name  string
		proto Protocol
		text  string
	}{
		{"plain room", ProtoPlain, `{"content":"hello, world","target":"room"}`},
		{"plain user", ProtoPlain, `{"content":"hello, world","target":"user:alice"}`},
		{"plain escapes", ProtoPlain, `{"content":"\"hello\",\nworld \u00fc","target":"room"}`},
		{"plain 1 KB", ProtoPlain, `{"content":"` + text + `","target":"room"}`},
		{"v1 send", ProtoV1,
			`{"type":"send","id":17,"room":"lobby","content":{"text":"hello, world","n":12.5}}`},
		{"v1 send all", ProtoV1, `{"type":"send","id":17,"room":"lobby","message_type":"chat",` +
			`"message_id":"0c4bd53e-17","receipt":true,"content":{"text":"hello","n":12.5}}`},
		{"v1 send 1 KB", ProtoV1,
			`{"type":"send","id":17,"room":"lobby","content":{"text":"` + text + `"}}`},
		{"v1 join since", ProtoV1,
			`{"type":"join","id":1,"room":"lobby","since":{"epoch":"r1x7","offset":1234}}`},
		{"v1 reply", ProtoV1, `{"type":"reply","id":"c5","content":{"ok":true}}`},
		{"v1 ack", ProtoV1, `{"type":"ack","epoch":"r1x7","offset":1234}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p := []byte(bench.text)
			b.ReportAllocs()
			for b.Loop() {
				cmd := bench.proto.Decode(sendqueue.OpText, p)
				if cmd.Kind == CmdNone || cmd.Req != nil && cmd.Req.Wrong != nil {
					b.Fatal("not a command")
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	at := time.Unix(1764459600, 123_456_789)
	msg := broker.Message{
		Type: TypeChat, Sender: "alice", Time: at, Content: ChatContent("alice", "hello, world", at),
	}
	for name, proto := range map[string]Protocol{"plain": ProtoPlain, "v1": ProtoV1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if EncodeIn(proto, &msg, &Envelope{Room: "lobby"}).Op() != sendqueue.OpText {
					b.Fatal("not text")
				}
			}
		})
	}
}

func BenchmarkAppendString(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"short", "lobby"},
		{"sentence", "The quick brown fox jumps over the lazy dog."},
		{"escapes", "\"The quick brown fox\"\njumps over the lazy dog."},
		{"unicode", "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich 🥊"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendString(buf[:0], bench.text)
			}
		})
	}
}
