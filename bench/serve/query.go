package serve

import (
	"net/http"
	"strings"
)

// Client is the identity in the query of an upgrade request.
type Client struct {
	Room   string
	User   string
	Direct bool // the client can be addressed by name
}

// Identity returns the identity in the query of an upgrade request.
func Identity(r *http.Request) Client {
	q := r.URL.Query()
	return Client{Room: q.Get("room"), User: q.Get("user"), Direct: q.Get("direct") == "1"}
}

// Name returns the name by which the client can be addressed. It is empty without Direct.
func (c Client) Name() string {
	if !c.Direct {
		return ""
	}
	return c.User
}

// Addressee returns the user to whom a frame of the plain dialect is addressed. It reports false
// for a frame to the room.
func Addressee(frame string) (string, bool) {
	if !strings.HasPrefix(frame, "@") {
		return "", false
	}
	name, _, _ := strings.Cut(frame[1:], " ")
	return name, true
}
