// Command gws serves the benchmark with gws: each room has a hub, which sends each message to all
// members through a Broadcaster, so that it is framed, and compressed, once. The server does not
// ping, because gws leaves pings to clients.
package main

import (
	"net/http"
	"sync"

	"github.com/lxzan/gws"

	"github.com/realtime-go/realtime/bench/serve"
)

var index = serve.Index[*room, *gws.Conn]{Make: func(string) *room {
	return &room{members: make(map[*gws.Conn]struct{})}
}}

// The keys of a session.
const (
	roomKey = "room"
	nameKey = "name"
)

func main() {
	upgrader := gws.NewUpgrader(&handler{}, &gws.ServerOption{
		Recovery:          gws.Recovery,
		PermessageDeflate: gws.PermessageDeflate{Enabled: serve.Deflate()},
	})
	serve.Run("plain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		who := serve.Identity(r)
		conn.Session().Store(roomKey, index.Room(who.Room))
		conn.Session().Store(nameKey, who.Name())
		go conn.ReadLoop()
	}), "github.com/lxzan/gws")
}

// room is the set of its members.
type room struct {
	mu      sync.RWMutex
	members map[*gws.Conn]struct{}
}

func (r *room) broadcast(text []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, text)
	defer b.Close()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for c := range r.members {
		_ = b.Broadcast(c)
	}
}

func roomOf(c *gws.Conn) *room {
	v, _ := c.Session().Load(roomKey)
	r, _ := v.(*room)
	return r
}

func nameOf(c *gws.Conn) string {
	v, _ := c.Session().Load(nameKey)
	name, _ := v.(string)
	return name
}
