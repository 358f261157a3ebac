package realtime

import "time"

// Identity is who is behind a connection, as Options.Authenticate found out.
type Identity struct {
	// UserID names the user. Connections with the same id are the same user's
	// devices. Empty means anonymous: such a connection is never announced when it
	// opens or ends, and only rooms, ToAll and ToConn reach it.
	UserID string
	// ExpiresAt is until when this holds, as of a token or a session. Then
	// Options.Revalidate is asked, and a connection that is not renewed is closed with code
	// 4401. Zero means for as long as the connection lasts.
	ExpiresAt time.Time
	// Data is whatever the application wants at hand, see [Conn.Identity].
	Data any
}

func (id Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// validate returns an error that matches ErrName or ErrUnauthenticated.
func (id Identity) validate() error {
	if id.expired(time.Now()) {
		return ErrUnauthenticated
	}
	if id.UserID == "" {
		return nil
	}
	return validUser(id.UserID)
}
