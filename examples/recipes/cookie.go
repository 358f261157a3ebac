package recipes

import (
	"net/http"

	"github.com/realtime-go/realtime"
)

// sessions stands for the sessions of the application: it maps cookies to users.
type sessions map[string]string

func (s sessions) authenticate(r *http.Request) (realtime.Identity, error) {
	cookie, err := r.Cookie("session")
	if err != nil || s[cookie.Value] == "" {
		return realtime.Identity{}, realtime.ErrUnauthenticated
	}
	return realtime.Identity{UserID: s[cookie.Value]}, nil
}

func withCookie(s sessions) *realtime.Manager {
	return realtime.New(&realtime.Options{Authenticate: s.authenticate})
}
