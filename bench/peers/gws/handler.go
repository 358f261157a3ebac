package main

import (
	"github.com/lxzan/gws"

	"github.com/realtime-go/realtime/bench/serve"
)

type handler struct{ gws.BuiltinEventHandler }

func (*handler) OnOpen(c *gws.Conn) {
	index.Add(nameOf(c), c)
	r := roomOf(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[c] = struct{}{}
}

func (*handler) OnClose(c *gws.Conn, _ error) {
	index.Remove(nameOf(c))
	r := roomOf(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

func (*handler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	name, direct := serve.Addressee(string(m.Bytes()))
	if !direct {
		roomOf(c).broadcast(m.Bytes())
		return
	}
	if to, ok := index.User(name); ok {
		text := append([]byte(nil), m.Bytes()...) // m goes back to its pool before the write
		to.WriteAsync(gws.OpcodeText, text, nil)
	}
}
