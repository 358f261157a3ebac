package realtime

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

// benchRoom returns a Manager with a room of n members whose clients read.
func benchRoom(b *testing.B, n int) (*Manager, []*Conn) {
	m := New(&Options{
		Authorize: InsecureAllowAll, Slow: SlowDropNewest,
		Limits: Limits{InboundRate: -1, InboundBytes: -1},
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

// BenchmarkAccept includes the cost of net/http and of the client.
func BenchmarkAccept(b *testing.B) {
	rt := New(&Options{Limits: Limits{Conns: -1}})
	defer rt.Close()
	srv := httptest.NewServer(rt)
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	request := []byte("GET / HTTP/1.1\r\nHost: " + addr + "\r\n" +
		"Upgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	answer := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = c.Write(request)
		if _, err := c.Read(answer); err != nil {
			b.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}
