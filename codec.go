package realtime

import (
	"encoding/base64"
	"github.com/realtime-go/realtime/broker"
	"strconv"
	"time"
)

// decodePlain reads a text message of a plain client: the four characters ping, or
// an object with a string content and a string target. Everything else is nothing.
// What it returns may be a part of p.
func decodePlain(p []byte) command {
	if string(p) == "ping" {
		return command{kind: cmdPing}
	}
	var values [2][]byte
	if members(p, []string{"content", "target"}, values[:]) != nil {
		return command{}
	}
	text, ok := jsonText(values[0])
	target, ok2 := jsonTarget(values[1])
	if !ok || !ok2 {
		return command{}
	}
	return command{kind: cmdChat, text: text, target: target}
}

// jsonTarget is jsonString without an allocation for the usual targets.
func jsonTarget(raw []byte) (string, bool) {
	switch string(raw) {
	case `"` + targetRoom + `"`:
		return targetRoom, true
	case `"` + targetAll + `"`:
		return targetAll, true
	}
	return jsonString(raw)
}

// appendPlain appends a message in the envelope of the plain protocol. The order of
// the members is part of the contract with clients that compare text.
func appendPlain(buf []byte, m *broker.Message) []byte {
	buf = appendSender(buf, m)
	buf = appendContent(buf, m)
	return append(appendTime(buf, m), '}')
}

// appendSender appends the beginning of the envelope.
func appendSender(buf []byte, m *broker.Message) []byte {
	buf = append(buf, `{"message_type":`...)
	if m.Type == "" {
		buf = appendString(buf, typeChat)
	} else {
		buf = appendString(buf, m.Type)
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

// greeting is what welcome tells a client.
type greeting struct {
	conn, user string
	maxMessage int             // bytes
	comeBack   time.Duration   // over how much time all clients should come back after a loss
	session    string          // the token to resume it with, empty if it cannot be
	grace      time.Duration   // for how long it can be
	inbox      broker.Position // where it begins; without epoch: there is none
	top        uint64          // the offset of the newest message in it
}

// welcome is the first message of every connection.
func welcome(p protocol, g greeting) broker.Message {
	buf := append([]byte(nil), `{"connection_id":`...)
	buf = appendString(buf, g.conn)
	buf = append(buf, `,"message":"Connected successfully"`...)
	if p == protoV1 {
		buf = appendStringOrNull(append(buf, `,"user_id":`...), g.user)
		buf = append(buf, `,"max_message_bytes":`...)
		buf = strconv.AppendInt(buf, int64(g.maxMessage), 10)
		buf = append(buf, `,"reconnect_ms":`...)
		buf = strconv.AppendInt(buf, g.comeBack.Milliseconds(), 10)
		if g.session != "" {
			buf = appendString(append(buf, `,"session":`...), g.session)
			buf = strconv.AppendInt(append(buf, `,"resume_ms":`...), g.grace.Milliseconds(), 10)
		}
		if g.inbox.Epoch != "" {
			buf = appendString(append(buf, `,"inbox":{"epoch":`...), g.inbox.Epoch)
			buf = strconv.AppendUint(append(buf, `,"offset":`...), g.inbox.Offset, 10)
			buf = append(strconv.AppendUint(append(buf, `,"top":`...), g.top, 10), '}')
		}
	}
	return broker.Message{Type: typeHello, Content: append(buf, '}')}
}

func userJoined(user string) broker.Message { return userNotice(typeJoined, user, " joined") }
func userLeft(user string) broker.Message   { return userNotice(typeLeft, user, " left") }

func userNotice(typ, user, verb string) broker.Message {
	buf := append([]byte(nil), `{"user_id":`...)
	buf = appendString(buf, user)
	buf = append(buf, `,"message":`...)
	buf = appendString(buf, "User "+user+verb)
	return broker.Message{Type: typ, Sender: user, Content: append(buf, '}')}
}

func roomJoined(user, room string) broker.Message {
	return roomNotice("room_join", user, room, " joined room ")
}

func roomLeft(user, room string) broker.Message {
	return roomNotice("room_leave", user, room, " left room ")
}

func roomNotice(kind, user, room, verb string) broker.Message {
	buf := append([]byte(nil), `{"type":`...)
	buf = appendString(buf, kind)
	buf = append(buf, `,"user_id":`...)
	buf = appendStringOrNull(buf, user)
	buf = append(buf, `,"room_id":`...)
	buf = appendString(buf, room)
	buf = append(buf, `,"message":`...)
	buf = appendString(buf, "User"+verb+room)
	return broker.Message{Type: typeNotice, Sender: user, Content: append(buf, '}')}
}
