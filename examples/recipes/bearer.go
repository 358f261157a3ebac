package recipes

import (
	"context"
	"net/http"
	"time"

	"github.com/realtime-go/realtime"
)

// verify stands for the check of a token, such as a JWT. It returns the user and the time of expiry,
// and an error for an empty token.
type verify func(token string) (user string, until time.Time, err error)

func withBearer(check verify) *realtime.Manager {
	identify := func(token string) (realtime.Identity, error) {
		user, until, err := check(token)
		return realtime.Identity{UserID: user, ExpiresAt: until}, err
	}
	return realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			return identify(realtime.BearerToken(r))
		},
		Revalidate: func(_ context.Context, _ *realtime.Conn, token string) (realtime.Identity, error) {
			return identify(token)
		},
	})
}
