package wire

import (
	"github.com/realtime-go/realtime/broker"
)

// UserJoined and UserLeft return the notices about a user.
func UserJoined(user string) broker.Message { return userNotice(typeJoined, user, " joined") }
func UserLeft(user string) broker.Message   { return userNotice(typeLeft, user, " left") }

func userNotice(typ, user, verb string) broker.Message {
	buf := append([]byte(nil), `{"user_id":`...)
	buf = AppendString(buf, user)
	buf = append(buf, `,"message":`...)
	buf = AppendString(buf, "User "+user+verb)
	return broker.Message{Type: typ, Sender: user, Content: append(buf, '}')}
}

// RoomJoined and RoomLeft return the notices about a member of a room.
func RoomJoined(user, room string) broker.Message {
	return roomNotice("room_join", user, room, " joined room ")
}

func RoomLeft(user, room string) broker.Message {
	return roomNotice("room_leave", user, room, " left room ")
}

func roomNotice(kind, user, room, verb string) broker.Message {
	buf := append([]byte(nil), `{"type":`...)
	buf = AppendString(buf, kind)
	buf = append(buf, `,"user_id":`...)
	buf = appendStringOrNull(buf, user)
	buf = append(buf, `,"room_id":`...)
	buf = AppendString(buf, room)
	buf = append(buf, `,"message":`...)
	buf = AppendString(buf, "User"+verb+room)
	return broker.Message{Type: TypeNotice, Sender: user, Content: append(buf, '}')}
}
