package realtime

import (
	"context"
	"fmt"
	"testing"

	"github.com/realtime-go/realtime/internal/engine"
)

// benchRoom returns a Manager with a room of n members whose clients read.
func benchRoom(b *testing.B, n int) (*Manager, []*Conn) {
	m := New(&Options{
		Authorize: InsecureAllowAll, Slow: SlowDropNewest, InboundRate: -1, InboundBytes: -1,
	})
	b.Cleanup(func() { _ = m.Close() })
	conns := make([]*Conn, n)
	for i := range conns {
		transport, far := Pipe()
		go func() {
			for {
				if _, _, err := far.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		c, err := m.Register(context.Background(), transport, Identity{UserID: fmt.Sprint("u", i)})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Join(context.Background(), c.ID(), "lobby"); err != nil {
			b.Fatal(err)
		}
		conns[i] = c
	}
	return m, conns
}

func BenchmarkSendToRoom(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, _ := benchRoom(b, n)
			msg := Chat("u0", "hello, world")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Send(context.Background(), ToRoom("lobby"), msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	m, conns := benchRoom(b, 1000)
	id := conns[0].ID()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Leave(context.Background(), id, "lobby"); err != nil {
			b.Fatal(err)
		}
		if _, err := m.Join(context.Background(), id, "lobby"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	p := []byte(`{"content":"hello, world","target":"room"}`)
	b.ReportAllocs()
	for b.Loop() {
		if decodePlain(p).kind != cmdChat {
			b.Fatal("not a chat")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	msg := Chat("alice", "hello, world")
	b.ReportAllocs()
	for b.Loop() {
		if encodeIn(protoPlain, &msg, "").Op() != engine.OpText {
			b.Fatal("not text")
		}
	}
}
