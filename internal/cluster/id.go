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

// CutID returns the ID at the beginning of a text, in the form of ID.String. It reports false if there
// is none.
func CutID(text string) (id ID, ok bool) {
	if len(text) < hex.EncodedLen(len(id)) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text[:hex.EncodedLen(len(id))]))
	return id, err == nil
}

// connPrefix is the beginning of the ids of connections.
const connPrefix = "conn_"

// NewConn returns the id of a new connection: a UUID of version 4. If there are other nodes, it
// begins with the ID of this one, and only the rest is random: so the others know where the
// connection is.
func (n *Node) NewConn() string {
	u := uuid.New()
	if !n.Alone() {
		copy(u[:], n.ID[:])
	}
	return connPrefix + u.String()
}

// NodeOf returns the node of a connection. It reports false if no node can have made the id.
func NodeOf(conn string) (id ID, ok bool) {
	text, ok := strings.CutPrefix(conn, connPrefix)
	if !ok || len(text) != 36 {
		return ID{}, false
	}
	u, err := uuid.Parse(text)
	if err != nil || u.Version() != 4 {
		return ID{}, false
	}
	copy(id[:], u[:])
	return id, true
}
