package realtime

// Identity is who is behind a connection, as Options.Authenticate found out.
type Identity struct {
	// UserID names the user. Connections with the same id are the same user's
	// devices. Empty means anonymous: such a connection is never announced when it
	// opens or ends, and only rooms, ToAll and ToConn reach it.
	UserID string
	// Data is whatever the application wants at hand, see [Conn.Identity].
	Data any
}

func (id Identity) validate() error {
	if id.UserID == "" {
		return nil
	}
	return validUser(id.UserID)
}
