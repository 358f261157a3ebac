package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// ID identifies a node. Each start of a process is another node.
type ID [6]byte

// NewID returns a random ID.
func NewID() (id ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// String returns the ID in hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// connPrefix is the beginning of the ids of connections.
const connPrefix = "conn_"

// NewConn returns the id of a new connection of the node: a UUID of version 8, RFC 9562 section
// 5.8, that begins with the ID of the node and is random otherwise.
func (id ID) NewConn() string {
	u := uuid.New()
	copy(u[:], id[:])
	u[6] = 0x80 | u[6]&0x0F
	return connPrefix + u.String()
}

// NodeOf returns the node of a connection. It reports false if no node has made the id.
func NodeOf(conn string) (id ID, ok bool) {
	text, ok := strings.CutPrefix(conn, connPrefix)
	if !ok || len(text) != 36 {
		return ID{}, false
	}
	u, err := uuid.Parse(text)
	if err != nil || u.Version() != 8 {
		return ID{}, false
	}
	copy(id[:], u[:])
	return id, true
}
