package wire

import (
	"testing"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

func BenchmarkDecode(b *testing.B) {
	p := []byte(`{"content":"hello, world","target":"room"}`)
	b.ReportAllocs()
	for b.Loop() {
		if decodePlain(p).Kind != CmdChat {
			b.Fatal("not a chat")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	msg := broker.Message{
		Type: TypeChat, Sender: "alice",
		Content: ChatContent("alice", "hello, world", time.Now()),
	}
	b.ReportAllocs()
	for b.Loop() {
		if EncodeIn(ProtoPlain, &msg, &Envelope{}).Op() != sendqueue.OpText {
			b.Fatal("not text")
		}
	}
}
