package wire

import (
	"encoding/base64"
	"strconv"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// decodePlain decodes a text message of a plain client: the four characters ping, or an object with
// a string content and a string target. For everything else it returns the zero Command. The result
// may refer to p.
func decodePlain(p []byte) Command {
	if string(p) == "ping" {
		return Command{Kind: CmdPing}
	}
	var values [2][]byte
	if Members(p, []string{"content", "target"}, values[:]) != nil {
		return Command{}
	}
	text, ok := jsonText(values[0])
	target, ok2 := jsonTarget(values[1])
	if !ok || !ok2 {
		return Command{}
	}
	return Command{Kind: CmdChat, Text: text, Target: target}
}

// jsonTarget is JSONString without an allocation for the usual targets.
func jsonTarget(raw []byte) (string, bool) {
	switch string(raw) {
	case `"` + TargetRoom + `"`:
		return TargetRoom, true
	case `"` + TargetAll + `"`:
		return TargetAll, true
	}
	return JSONString(raw)
}

// appendPlain appends a message in the envelope of the plain protocol. The order of the members
// must not change, because some clients compare text.
func appendPlain(buf []byte, m *broker.Message) []byte {
	buf = appendSender(buf, m)
	buf = appendContent(buf, m)
	return append(appendTime(buf, m), '}')
}

// appendSender appends the beginning of the envelope.
func appendSender(buf []byte, m *broker.Message) []byte {
	buf = append(buf, `{"message_type":`...)
	if m.Type == "" {
		buf = AppendString(buf, TypeChat)
	} else {
		buf = AppendString(buf, m.Type)
	}
	buf = append(buf, `,"sender_id":`...)
	return appendStringOrNull(buf, m.Sender)
}

func appendContent(buf []byte, m *broker.Message) []byte {
	buf = append(buf, `,"content":`...)
	switch {
	case m.Binary != nil:
		buf = append(buf, '"')
		return append(base64.StdEncoding.AppendEncode(buf, m.Binary), '"')
	case len(m.Content) == 0:
		return append(buf, "null"...)
	default:
		return append(buf, m.Content...)
	}
}

func appendTime(buf []byte, m *broker.Message) []byte {
	at := m.Time
	if at.IsZero() {
		at = time.Now()
	}
	buf = append(buf, `,"timestamp":`...)
	return strconv.AppendInt(buf, at.Unix(), 10)
}

// Greeting is the content of the welcome message.
type Greeting struct {
	Conn, User string
	MaxMessage int             // in bytes
	ComeBack   time.Duration   // the time over which all clients should reconnect after a loss
	Session    string          // the token to resume the session with; empty: it cannot be resumed
	Grace      time.Duration   // how long the session can be resumed
	Inbox      broker.Position // the position of the inbox; without epoch: no inbox
	Top        uint64          // the offset of the newest message in the inbox
}

// Welcome returns the first message of every connection.
func Welcome(p Protocol, g Greeting) broker.Message {
	buf := append([]byte(nil), `{"connection_id":`...)
	buf = AppendString(buf, g.Conn)
	buf = append(buf, `,"message":"Connected successfully"`...)
	if p == ProtoV1 {
		buf = appendStringOrNull(append(buf, `,"user_id":`...), g.User)
		buf = append(buf, `,"max_message_bytes":`...)
		buf = strconv.AppendInt(buf, int64(g.MaxMessage), 10)
		buf = append(buf, `,"reconnect_ms":`...)
		buf = strconv.AppendInt(buf, g.ComeBack.Milliseconds(), 10)
		if g.Session != "" {
			buf = AppendString(append(buf, `,"session":`...), g.Session)
			buf = strconv.AppendInt(append(buf, `,"resume_ms":`...), g.Grace.Milliseconds(), 10)
		}
		if g.Inbox.Epoch != "" {
			buf = AppendString(append(buf, `,"inbox":{"epoch":`...), g.Inbox.Epoch)
			buf = strconv.AppendUint(append(buf, `,"offset":`...), g.Inbox.Offset, 10)
			buf = append(strconv.AppendUint(append(buf, `,"top":`...), g.Top, 10), '}')
		}
	}
	return broker.Message{Type: TypeHello, Content: append(buf, '}')}
}

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
