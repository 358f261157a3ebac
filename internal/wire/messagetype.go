package wire

import (
	"strconv"
	"time"
)

// The message types of the plain protocol.
const (
	TypeChat    = "chat"
	TypeNotice  = "systemnotification"
	typeJoined  = "userjoined"
	typeLeft    = "userleft"
	TypeWelcome = "welcome"
)

// The targets that the plain protocol reserves. They are not valid names of users, but valid names
// of rooms.
const (
	TargetAll  = "all"
	TargetRoom = "room"
)

// MaxID is the maximum length of the id of a message or a request, in bytes.
const MaxID = 64

// Reserved reports whether neither clients nor the application may use a message type, because it
// belongs to the protocol itself. TypeNotice is not one of these: the application may send it.
func Reserved(t string) bool {
	switch t {
	case TypeWelcome, typeJoined, typeLeft, FramePing, FramePong, FrameReply, FrameError, FrameCall,
		FrameJoined, FrameLeft, FramePosition, FrameSkipped, FrameLarge, FramePresence, FrameLatest:
		return true
	}
	return false
}

// ChatContent returns the content of a chat message in the form that plain clients expect.
func ChatContent[T string | []byte](sender string, text T, at time.Time) []byte {
	buf := make([]byte, 0, 80+len(sender)+len(text))
	buf = append(buf, `{"type":"chat_message","sender_id":`...)
	buf = appendStringOrNull(buf, sender)
	buf = append(buf, `,"content":`...)
	buf = AppendString(buf, text)
	buf = append(buf, `,"timestamp":`...)
	buf = strconv.AppendInt(buf, at.Unix(), 10)
	return append(buf, '}')
}

// V1 is the subprotocol of realtime.v1.
const V1 = "realtime.v1"
