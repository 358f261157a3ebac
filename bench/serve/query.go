package serve

import (
	"net/http"
	"strings"
)

// Client is what a client says about itself when it opens its connection.
type Client struct {
	Room   string
	User   string
	Direct bool // wants to be found by name
}

// Who reads the query of an upgrade.
func Who(r *http.Request) Client {
	q := r.URL.Query()
	return Client{Room: q.Get("room"), User: q.Get("user"), Direct: q.Get("direct") == "1"}
}

// Name is what the client is to be found by, empty if it does not want to be.
func (c Client) Name() string {
	if !c.Direct {
		return ""
	}
	return c.User
}

// Addressee returns the user to whom a frame of the plain dialect is addressed, and
// false if it is for the room.
func Addressee(frame string) (string, bool) {
	if !strings.HasPrefix(frame, "@") {
		return "", false
	}
	name, _, _ := strings.Cut(frame[1:], " ")
	return name, true
}
