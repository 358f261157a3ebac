package wire

import "slices"

// The types of the frames of realtime.v1 that only a server sends. The type of a message is
// TypeHello, that of a notice, or one of the application's own.
const (
	FrameJoined   = "joined"
	FrameLeft     = "left"
	FramePosition = "position"
	FrameSkipped  = "skipped"
	FramePresence = "presence"
	FrameLatest   = "latest"
	FrameLarge    = "large" // if it has a number of bytes: the size of the next frame
)

// The types of the frames of realtime.v1 that servers and clients send.
const (
	FrameReply = "reply"
	FrameError = "error"
	FrameCall  = "call"
	FramePing  = "ping" // a request if it has an id
	FramePong  = "pong"
)

// The types of the other requests of realtime.v1.
const (
	RequestJoin     = "join"
	RequestRecover  = "recover"
	RequestLeave    = "leave"
	RequestSend     = "send"
	RequestPresence = FramePresence
	RequestHistory  = "history"
	RequestAck      = "ack"
	RequestResume   = "resume"
	RequestRefresh  = "refresh"
	RequestState    = "state"
	RequestSeen     = "seen"
)

// EncodingBase64 is the encoding of binary content in a message in JSON.
const EncodingBase64 = "base64"

// IsMessage reports whether a frame of this type that a client receives is a message for the
// application. FrameLarge is one if it has no number of bytes.
func IsMessage(typ string) bool {
	switch typ {
	case TypeWelcome, FrameReply, FrameError, FrameCall, FrameJoined, FrameLeft, FramePing, FramePong,
		FramePosition, FrameSkipped, FramePresence, FrameLatest:
		return false
	}
	return true
}

// RequestMembers returns the names of all members that a request can have.
func RequestMembers() []string { return slices.Clone(requestKeys[:]) }
