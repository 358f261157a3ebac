package wire

import (
	"strconv"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// WelcomeContent is the content of the welcome message.
type WelcomeContent struct {
	Conn, User     string
	MaxMessage     int             // in bytes
	ReconnectAfter time.Duration   // the time over which all clients should reconnect after a loss
	Session        string          // the token to resume the session with; empty: it cannot be resumed
	ResumeWithin   time.Duration   // how long the session can be resumed
	Inbox          broker.Position // the position of the inbox; without epoch: no inbox
	Top            uint64          // the offset of the newest message in the inbox
}

// Welcome returns the first message of every connection.
func Welcome(p Protocol, g WelcomeContent) broker.Message {
	buf := append([]byte(nil), `{"connection_id":`...)
	buf = AppendString(buf, g.Conn)
	buf = append(buf, `,"message":"Connected successfully"`...)
	if p == ProtoV1 {
		buf = appendStringOrNull(append(buf, `,"user_id":`...), g.User)
		buf = append(buf, `,"max_message_bytes":`...)
		buf = strconv.AppendInt(buf, int64(g.MaxMessage), 10)
		buf = append(buf, `,"reconnect_ms":`...)
		buf = strconv.AppendInt(buf, g.ReconnectAfter.Milliseconds(), 10)
		if g.Session != "" {
			buf = AppendString(append(buf, `,"session":`...), g.Session)
			buf = strconv.AppendInt(append(buf, `,"resume_ms":`...), g.ResumeWithin.Milliseconds(), 10)
		}
		if g.Inbox.Epoch != "" {
			buf = AppendString(append(buf, `,"inbox":{"epoch":`...), g.Inbox.Epoch)
			buf = strconv.AppendUint(append(buf, `,"offset":`...), g.Inbox.Offset, 10)
			buf = append(strconv.AppendUint(append(buf, `,"top":`...), g.Top, 10), '}')
		}
	}
	return broker.Message{Type: TypeWelcome, Content: append(buf, '}')}
}
