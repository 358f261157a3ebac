package realtime

// The message types of the plain protocol.
const (
	typeChat   = "chat"
	typeNotice = "systemnotification"
	typeJoined = "userjoined"
	typeLeft   = "userleft"
	typeHello  = "welcome"
)

// The targets that the plain protocol reserves: no user can have such a name. Rooms can.
const (
	targetAll  = "all"
	targetRoom = "room"
)

// maxID is the longest id of a message or a request, in bytes.
const maxID = 64

// reserved reports whether a type is one of the protocol itself.
func reserved(t string) bool {
	switch t {
	case typeHello, typeJoined, typeLeft,
		"ping", "pong", "reply", "error", "call", "joined", "left", "position",
		"skipped", "large":
		return true
	}
	return false
}
