package realtime

import (
	"cmp"
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/engine"
)

// V1 is the subprotocol that a client asks for to get replies: with the header
// Sec-WebSocket-Protocol or, where it cannot set that, with the query ?protocol=realtime.v1.
const V1 = "realtime.v1"

// requestKeys are the members of a request's object.
var requestKeys = []string{
	"type", "id", "room", "user", "conn", "all", "message_type", "message_id", "method", "content", "token",
}

var (
	errNoRequest = errors.New("not a JSON object with a type")
	errID        = errors.New("id must be a string or a number of at most 64 bytes")
	errMember    = errors.New("a member has the wrong type")
	errHeader    = errors.New("binary message without the length of its header, or shorter than that")
	errBinary    = errors.New("want a send without content in front of binary content")
)

// decode reads a message of a client. What it returns may be a part of p.
func (p protocol) decode(op engine.Op, data []byte) command {
	switch {
	case p == protoV1:
		return decodeV1(op, data)
	case op == engine.OpText:
		return decodePlain(data)
	default:
		return command{}
	}
}

// decodeV1 reads a message of a client of realtime.v1: the four characters ping, a request,
// or the answer to a call of the server's.
func decodeV1(op engine.Op, p []byte) command {
	if op == engine.OpText && string(p) == "ping" {
		return command{kind: cmdPing}
	}
	r := &request{}
	if op == engine.OpText {
		r.wrong = r.decode(p)
	} else {
		r.wrong = r.decodeBinary(p)
	}
	if r.wrong == nil && (r.name == "reply" || r.name == "error") {
		return command{kind: cmdAnswer, req: r}
	}
	return command{kind: cmdRequest, req: r}
}

func (r *request) decode(p []byte) error {
	var values [11][]byte
	err := members(p, requestKeys, values[:])
	if id := values[1]; id != nil {
		if len(id) > maxID || id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
			return cmp.Or(err, errID)
		}
		r.id = id // the answer has it also if there is something wrong
	}
	if err != nil {
		return err
	}
	if values[0] == nil {
		return errNoRequest
	}
	for i, s := range []*string{
		&r.name, nil, &r.room, &r.user, &r.conn, nil, &r.typ, &r.messageID, &r.method, nil, &r.token,
	} {
		if s == nil || values[i] == nil {
			continue
		}
		var ok bool
		if *s, ok = jsonString(values[i]); !ok {
			return errMember
		}
	}
	r.content = values[9]
	r.all = string(values[5]) == "true"
	if !r.all && values[5] != nil && string(values[5]) != "false" {
		return errMember
	}
	return nil
}

// decodeBinary reads a request in front of its content: the length of the JSON as an unsigned
// varint, the JSON, and the bytes.
func (r *request) decodeBinary(p []byte) error {
	n, size := binary.Uvarint(p)
	if size <= 0 || n > uint64(len(p)-size) {
		return errHeader
	}
	header := p[size : size+int(n)]
	if !utf8.Valid(header) {
		return errNotObject
	}
	if err := r.decode(header); err != nil {
		return err
	}
	if r.name != "send" || r.content != nil {
		return errBinary
	}
	r.binary = p[size+int(n):]
	return nil
}

// appendV1 appends a message in the envelope of realtime.v1: that of the plain protocol, with
// more behind it.
func appendV1(buf []byte, m *Message, room string) []byte {
	buf = appendContent(appendSender(buf, m), m)
	return appendPlace(appendTime(buf, m), m, room)
}

// appendBinary appends a message with binary content: its envelope without that, behind its
// length, and the bytes.
func appendBinary(buf []byte, m *Message, room string) []byte {
	header := appendPlace(appendTime(appendSender(nil, m), m), m, room)
	buf = binary.AppendUvarint(buf, uint64(len(header)))
	return append(append(buf, header...), m.Binary...)
}

// appendPlace appends what realtime.v1 adds to the envelope, and its end.
func appendPlace(buf []byte, m *Message, room string) []byte {
	if m.ID != "" {
		buf = appendString(append(buf, `,"id":`...), m.ID)
	}
	if room != "" {
		buf = appendString(append(buf, `,"room":`...), room)
	}
	return append(buf, '}')
}

// appendReply appends the answer to a request, with content if there is any.
func appendReply(buf, id, content []byte) []byte {
	return appendAnyContent(appendAnswer(buf, "reply", id), content)
}

// appendAnyContent appends content, if there is any, and the end.
func appendAnyContent(buf, content []byte) []byte {
	if len(content) > 0 {
		buf = append(append(buf, `,"content":`...), content...)
	}
	return append(buf, '}')
}

// appendError appends the answer to a request that failed.
func appendError(buf, id []byte, e *Error) []byte {
	buf = append(appendAnswer(buf, "error", id), `,"content":{"code":`...)
	buf = append(appendString(buf, e.Code), `,"message":`...)
	return append(appendString(buf, e.Message), '}', '}')
}

func appendAnswer(buf []byte, typ string, id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	buf = append(append(buf, `{"message_type":"`...), typ...)
	return append(append(buf, `","id":`...), id...)
}

// appendCall appends a call of the server's.
func appendCall(buf, id []byte, method string, content []byte) []byte {
	buf = append(appendAnswer(buf, "call", id), `,"method":`...)
	return appendAnyContent(appendString(buf, method), content)
}

// presence is the content of the answer to a request for who is in a room. Users are nil if
// there are too many to be listed.
func presence(users []string, userCount, connCount int) []byte {
	buf := append([]byte(nil), `{"users":`...)
	if users == nil {
		buf = append(buf, "null"...)
	} else {
		sep := byte('[')
		for _, user := range users {
			buf = appendString(append(buf, sep), user)
			sep = ','
		}
		if len(users) == 0 {
			buf = append(buf, '[')
		}
		buf = append(buf, ']')
	}
	buf = strconv.AppendInt(append(buf, `,"user_count":`...), int64(userCount), 10)
	buf = strconv.AppendInt(append(buf, `,"connection_count":`...), int64(connCount), 10)
	return append(buf, '}')
}
