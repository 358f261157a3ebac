package realtime

import (
	"fmt"
	"time"

	"github.com/realtime-go/realtime/internal/names"
)

// Identity is who is behind a connection, as Options.Authenticate found out.
type Identity struct {
	// UserID names the user. Connections with the same id are the same user's
	// devices. Empty means anonymous: such a connection is never announced when it
	// opens or ends, and only rooms, ToAll and ToConn reach it.
	UserID string
	// ExpiresAt is until when this holds, as of a token or a session. Then
	// Options.Revalidate is asked, and a connection that is not renewed is closed with code
	// 4401: a client that has no token to renew, but a cookie, stays away then, unless
	// Revalidate looks the session up itself. How long that is gets measured once, when the
	// connection opens or is renewed: a clock that is set later neither shortens nor extends it.
	// Zero means for as long as the connection lasts.
	ExpiresAt time.Time
	// Device names the device, for users each of whose devices has its own place in their inbox,
	// see InboxOptions.PerDevice: a random name that the device keeps. Rules of [ValidName].
	Device string
	// Data is whatever the application wants at hand, see [Conn.Identity].
	Data any
}

func (id Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// deadline is ExpiresAt as so much time from now on, which no step of the wall clock moves.
func (id Identity) deadline(now time.Time) time.Time {
	if id.ExpiresAt.IsZero() {
		return time.Time{}
	}
	return now.Add(id.ExpiresAt.Sub(now))
}

// validate returns an error that matches ErrName or ErrUnauthenticated.
func (id Identity) validate() error {
	if id.expired(time.Now()) {
		return ErrUnauthenticated
	}
	if id.Device != "" {
		if err := ValidName(id.Device); err != nil {
			return fmt.Errorf("device: %w", err)
		}
	}
	if id.UserID == "" {
		return nil
	}
	return names.CheckUser(id.UserID)
}
