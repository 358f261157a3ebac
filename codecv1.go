package realtime

import "errors"

// V1 is the subprotocol that a client asks for to get replies: with the header
// Sec-WebSocket-Protocol or, where it cannot set that, with the query ?protocol=realtime.v1.
const V1 = "realtime.v1"

// maxID is the longest id of a request, in bytes of JSON.
const maxID = 64

// requestKeys are the members of a request's object.
var requestKeys = []string{
	"type", "id", "room", "user", "conn", "all", "message_type", "content", "token",
}

var (
	errNoRequest = errors.New("not a JSON object with a type")
	errID        = errors.New("id must be a string or a number of at most 64 bytes")
	errMember    = errors.New("a member has the wrong type")
)

// decode reads a text message of a client.
func (p protocol) decode(text []byte) command {
	if p == protoV1 {
		return decodeV1(text)
	}
	return decodePlain(text)
}

// decodeV1 reads a text message of a client of realtime.v1: the four characters ping, or a
// request.
func decodeV1(p []byte) command {
	if string(p) == "ping" {
		return command{kind: cmdPing}
	}
	r := &request{}
	r.wrong = r.decode(p)
	return command{kind: cmdRequest, req: r}
}

func (r *request) decode(p []byte) error {
	var values [9][]byte
	if err := members(p, requestKeys, values[:]); err != nil {
		return err
	}
	if id := values[1]; id != nil {
		if len(id) > maxID || id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
			return errID
		}
		r.id = id
	}
	if values[0] == nil {
		return errNoRequest
	}
	for i, s := range []*string{&r.name, nil, &r.room, &r.user, &r.conn, nil, &r.typ, nil, &r.token} {
		if s == nil || values[i] == nil {
			continue
		}
		var ok bool
		if *s, ok = jsonString(values[i]); !ok {
			return errMember
		}
	}
	r.content = values[7]
	r.all = string(values[5]) == "true"
	if !r.all && values[5] != nil && string(values[5]) != "false" {
		return errMember
	}
	return nil
}

// appendV1 appends a message in the envelope of realtime.v1: that of the plain protocol, with
// the room behind it.
func appendV1(buf []byte, m *Message, room string) []byte {
	buf = appendPlain(buf, m)
	if room == "" {
		return buf
	}
	buf = append(buf[:len(buf)-1], `,"room":`...)
	return append(appendString(buf, room), '}')
}

// appendReply appends the answer to a request, or to one that failed with an error code.
func appendReply(buf, id []byte, code, message string) []byte {
	if id == nil {
		id = []byte("null")
	}
	if code == "" {
		return append(append(append(buf, `{"message_type":"reply","id":`...), id...), '}')
	}
	buf = append(append(buf, `{"message_type":"error","id":`...), id...)
	buf = append(buf, `,"content":{"code":`...)
	buf = append(appendString(buf, code), `,"message":`...)
	return append(appendString(buf, message), '}', '}')
}
