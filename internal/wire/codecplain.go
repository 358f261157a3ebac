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

// appendTime appends the time in whole seconds.
func appendTime(buf []byte, m *broker.Message) []byte {
	return strconv.AppendInt(append(buf, `,"timestamp":`...), timeOf(m).Unix(), 10)
}

func timeOf(m *broker.Message) time.Time {
	if m.Time.IsZero() {
		return time.Now()
	}
	return m.Time
}
