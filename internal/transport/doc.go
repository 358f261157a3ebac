// Package transport carries the messages of one connection, over a WebSocket or in memory.
package transport
