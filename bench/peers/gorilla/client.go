package main

import (
	"time"

	"github.com/gorilla/websocket"

	"github.com/realtime-go/realtime/bench/serve"
)

const (
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = pongWait * 9 / 10
	maxMessage = 64 << 10
)

// client is one connection.
type client struct {
	hub  *hub
	name string
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
}

func (c *client) readPump() {
	defer func() {
		index.Remove(c.name)
		c.hub.unregister <- c
		_ = c.conn.Close()
	}()
	c.conn.SetReadLimit(maxMessage)
	alive := func(string) error { return c.conn.SetReadDeadline(time.Now().Add(pongWait)) }
	_ = alive("")
	c.conn.SetPongHandler(alive)
	for {
		_, text, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if name, ok := serve.Addressee(string(text)); ok {
			if to, ok := index.User(name); ok {
				to.hub.direct <- letter{to, prepare(text)}
			}
			continue
		}
		c.hub.broadcast <- prepare(text)
	}
}

func (c *client) writePump() {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		_ = c.conn.Close()
	}()
	for {
		select {
		case m, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			if c.conn.WritePreparedMessage(m) != nil {
				return
			}
		case <-ticker.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if c.conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}
