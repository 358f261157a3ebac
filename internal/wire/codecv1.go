package wire

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// requestKeys are the members of a request's object, in the order of the constants.
var requestKeys = [numKeys]string{
	keyType: "type", keyID: "id", keyRoom: "room", keyUser: "user", keyConn: "conn", keyAll: "all",
	keyMessageType: "message_type", keyMessageID: "message_id", keyMethod: "method",
	keyContent: "content", keyToken: "token", keyTTL: "ttl_ms",
	keyReceipt: "receipt", keyHistory: "history", keySince: "since", keyLimit: "limit",
	keyBefore: "before", keyAfter: "after", keyEpoch: "epoch", keyOffset: "offset",
	keySession: "session", keyServer: "server", keyEphemeral: "ephemeral", keyLatest: "latest",
	keyPresence: "presence", keyState: "state", keyFrames: "frames",
}

const (
	keyType = iota
	keyID
	keyRoom
	keyUser
	keyConn
	keyAll
	keyMessageType
	keyMessageID
	keyMethod
	keyContent
	keyToken
	keyTTL
	keyReceipt
	keyHistory
	keySince
	keyLimit
	keyBefore
	keyAfter
	keyEpoch
	keyOffset
	keySession
	keyServer
	keyEphemeral
	keyLatest
	keyPresence
	keyState
	keyFrames
	numKeys
)

var (
	ErrNoRequest = errors.New("not a JSON object with a type")
	ErrID        = errors.New("id must be a string or a number of at most 64 bytes")
	ErrMember    = errors.New("a member has the wrong type")
	ErrSurrogate = errors.New("content has half of a surrogate pair")
	ErrState     = errors.New("state has half of a surrogate pair")
	ErrHeader    = errors.New("binary message with a missing or wrong header length")
	ErrBinary    = errors.New("only a send, call or reply without content can precede bytes")
)

// Decode decodes a message of a client. The result may refer to data.
func (p Protocol) Decode(op sendqueue.Op, data []byte) Command {
	switch {
	case p == ProtoV1:
		return DecodeV1(op, data)
	case op == sendqueue.OpText:
		return decodePlain(data)
	default:
		return Command{}
	}
}

// DecodeV1 decodes a message of a client of realtime.v1: the four characters ping, a request, or
// the answer to a call of the server.
func DecodeV1(op sendqueue.Op, p []byte) Command {
	if op == sendqueue.OpText && string(p) == FramePing {
		return Command{Kind: CmdPing}
	}
	r := &Request{}
	if op == sendqueue.OpText {
		r.Wrong = r.decode(p)
	} else {
		r.Wrong = r.decodeBinary(p)
	}
	if r.Wrong == nil && (r.Name == FrameReply || r.Name == FrameError) {
		return Command{Kind: CmdAnswer, Req: r}
	}
	if r.Wrong == nil && r.Name == RequestSeen {
		return Command{Kind: CmdSeen, Req: r}
	}
	return Command{Kind: CmdRequest, Req: r}
}

func (r *Request) decode(p []byte) error {
	var values [numKeys][]byte
	err := Members(p, requestKeys[:], values[:])
	// Before any error is returned: the reply needs to know of ephemeral, of latest and of the id.
	known := jsonBool(values[keyEphemeral], &r.Ephemeral) && r.decodeState(&values)
	if id := values[keyID]; id != nil {
		if len(id) > MaxID || id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
			return cmp.Or(err, ErrID)
		}
		r.ID = id
	}
	if err != nil {
		return err
	}
	if values[keyType] == nil {
		return ErrNoRequest
	}
	if r.Content = values[keyContent]; loneSurrogate(r.Content) {
		return ErrSurrogate
	}
	if loneSurrogate(values[keyState]) {
		return ErrState
	}
	if !known || !r.decodeStrings(&values) || !r.latestFits() || !r.decodeNumbers(&values) ||
		!r.decodeSince(values[keySince]) || !jsonBool(values[keyAll], &r.All) ||
		!jsonBool(values[keyReceipt], &r.Receipt) || !jsonBool(values[keyServer], &r.Server) {
		return ErrMember
	}
	return nil
}

func (r *Request) decodeStrings(values *[numKeys][]byte) bool {
	for i, s := range [numKeys]*string{
		keyType: &r.Name, keyRoom: &r.Room, keyUser: &r.User, keyConn: &r.Conn, keyMessageType: &r.Typ,
		keyMessageID: &r.MessageID, keyMethod: &r.Method, keyToken: &r.Token,
		keyEpoch: &r.Epoch, keySession: &r.Session,
	} {
		if s == nil || values[i] == nil {
			continue
		}
		var ok bool
		if *s, ok = JSONString(values[i]); !ok {
			return false
		}
	}
	return true
}

// decodeState decodes the key of a latest value, and what a client asks and says about the state of
// a room.
func (r *Request) decodeState(values *[numKeys][]byte) (ok bool) {
	latest, presence, state := values[keyLatest], values[keyPresence], values[keyState]
	if latest != nil && latest[0] == '"' {
		r.Latest, ok = JSONString(latest)
		return ok && presence == nil && state == nil
	}
	if latest == nil && presence == nil && state == nil {
		return true
	}
	r.State = &RoomState{Own: state}
	if latest != nil {
		r.State.HasValues = true
		if r.State.Values, ok = jsonUint(latest); !ok {
			return false
		}
	}
	if presence == nil || jsonBool(presence, &r.State.Watch) {
		return true
	}
	r.State.Watch = true
	r.State.Presence, ok = jsonUint(presence)
	return ok
}

// latestFits reports whether the member latest, if there is one, is a key in a send, and a version in
// any other request.
func (r *Request) latestFits() bool {
	if r.Name == RequestSend {
		return r.State == nil || !r.State.HasValues
	}
	return r.Latest == ""
}

func (r *Request) decodeNumbers(values *[numKeys][]byte) bool {
	var n [numKeys]uint64
	for _, i := range []int{keyTTL, keyHistory, keyLimit, keyBefore, keyAfter, keyOffset, keyFrames} {
		if values[i] == nil {
			continue
		}
		var ok bool
		if n[i], ok = jsonUint(values[i]); !ok {
			return false
		}
	}
	r.TTL = time.Duration(min(n[keyTTL], maxTTL)) * time.Millisecond
	r.History, r.Limit = int(min(n[keyHistory], maxAsked)), int(min(n[keyLimit], maxAsked))
	r.Before, r.After, r.Offset = n[keyBefore], n[keyAfter], n[keyOffset]
	r.Forward = values[keyAfter] != nil
	if values[keyFrames] != nil {
		r.Offset = n[keyFrames]
	}
	return true
}

// decodeSince decodes a position, if there is one.
func (r *Request) decodeSince(p []byte) bool {
	if p == nil {
		return true
	}
	var values [2][]byte
	if Members(p, []string{"epoch", "offset"}, values[:]) != nil {
		return false
	}
	epoch, ok := JSONString(values[0])
	offset, ok2 := jsonUint(values[1])
	r.Since = broker.Position{Epoch: epoch, Offset: offset}
	return ok && ok2 && epoch != ""
}

// maxAsked is the maximum number of kept messages in one request.
const maxAsked = 1000

// maxTTL is the longest time to live that a client can request, in milliseconds: a year.
const maxTTL = 365 * 24 * 3600 * 1000

// decodeBinary decodes a request or an answer that is followed by its content: the length of the
// JSON as an unsigned varint, the JSON, and the bytes.
func (r *Request) decodeBinary(p []byte) error {
	n, size := binary.Uvarint(p)
	if size <= 0 || n > uint64(len(p)-size) {
		return ErrHeader
	}
	header := p[size : size+int(n)]
	if !utf8.Valid(header) {
		return ErrNotObject
	}
	if err := r.decode(header); err != nil {
		return err
	}
	if r.Content != nil || r.Name != RequestSend && r.Name != FrameCall && r.Name != FrameReply {
		return ErrBinary
	}
	r.Binary = p[size+int(n):]
	return nil
}

// appendV1 appends a message in the envelope of realtime.v1: the envelope of the plain protocol
// with more members at the end.
func appendV1(buf []byte, m *broker.Message, at *Envelope) []byte {
	buf = appendContent(appendSender(buf, m), m)
	return append(appendPlace(appendMilliseconds(buf, m), m, at), '}')
}

// AppendKept appends a message in JSON, also if its content is binary.
func AppendKept(buf []byte, m *broker.Message, at *Envelope) []byte {
	buf = appendPlace(appendMilliseconds(appendContent(appendSender(buf, m), m), m), m, at)
	if m.Binary != nil {
		buf = append(buf, `,"encoding":"`+EncodingBase64+`"`...)
	}
	return append(buf, '}')
}

// appendBinary appends a message with binary content: the length of its envelope, the envelope
// without content, and the bytes.
func appendBinary(buf []byte, m *broker.Message, at *Envelope) []byte {
	header := append(appendPlace(appendMilliseconds(appendSender(nil, m), m), m, at), '}')
	return appendHeaded(buf, header, m.Binary)
}

// appendHeaded appends a header with its length, and the bytes that it is about.
func appendHeaded(buf, header, content []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(header)))
	return append(append(buf, header...), content...)
}

// appendMilliseconds appends the time in seconds with three decimals, or none for a whole second.
func appendMilliseconds(buf []byte, m *broker.Message) []byte {
	buf = append(buf, `,"timestamp":`...)
	at := timeOf(m).UnixMilli()
	ms := uint64(at)
	if at < 0 {
		buf, ms = append(buf, '-'), -ms
	}
	buf = strconv.AppendUint(buf, ms/1000, 10)
	if ms %= 1000; ms > 0 {
		buf = append(buf, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return buf
}

// Envelope is the room and the position of a message, and what its receivers may know of the
// sender.
type Envelope struct {
	Conn string          // the connection of the sender, or empty
	Room string          // the room to which the message is sent, or empty
	At   broker.Position // in its stream; zero if the message is not kept
	Prev uint64          // the offset of the previous message in the stream
	// Latest is for a latest value: its receivers are told the key.
	Latest bool
}

// size returns approximately how many bytes the members of the envelope take on the wire.
func (p *Envelope) size() int {
	n := len(p.Room) + len(p.Conn)
	if p.Latest {
		n += len(`,"latest":""`) + 64
	}
	if p.At.Epoch != "" {
		n += len(p.At.Epoch) + len(`,"offset":1234567,"prev":1234567,"epoch":""`)
	}
	return n
}

// appendPlace appends the members that realtime.v1 adds to the envelope. Those that depend on the
// position come last.
func appendPlace(buf []byte, m *broker.Message, at *Envelope) []byte {
	if m.Guest != "" {
		buf = AppendString(append(buf, `,"guest":`...), m.Guest)
	}
	if at.Conn != "" {
		buf = AppendString(append(buf, `,"conn":`...), at.Conn)
	}
	if m.ID != "" {
		buf = AppendString(append(buf, `,"id":`...), m.ID)
	}
	if at.Room != "" {
		buf = AppendString(append(buf, `,"room":`...), at.Room)
	}
	if m.Ephemeral {
		buf = append(buf, `,"ephemeral":true`...)
	}
	if at.Latest {
		buf = AppendString(append(buf, `,"latest":`...), m.Latest)
	}
	if at.At.Epoch == "" {
		return buf
	}
	buf = strconv.AppendUint(append(buf, `,"offset":`...), at.At.Offset, 10)
	buf = strconv.AppendUint(append(buf, `,"prev":`...), at.Prev, 10)
	return AppendString(append(buf, `,"epoch":`...), at.At.Epoch)
}

// appendPosition appends a position as members of an object that already has other members.
func appendPosition(buf []byte, at broker.Position) []byte {
	buf = strconv.AppendUint(append(buf, `,"offset":`...), at.Offset, 10)
	return AppendString(append(buf, `,"epoch":`...), at.Epoch)
}

// appendReply appends the answer to a request, with content if it is not empty.
func appendReply(buf, id, content []byte) []byte {
	return AppendAnyContent(appendAnswer(buf, FrameReply, id), content)
}

// AppendAnyContent appends the content, if it is not empty, and the end of the object.
func AppendAnyContent(buf, content []byte) []byte {
	if len(content) > 0 {
		buf = append(append(buf, `,"content":`...), content...)
	}
	return append(buf, '}')
}

// Error is the content of an error reply.
type Error struct {
	Code, Message string
	RetryAfter    time.Duration
	Data          json.RawMessage // empty: none
}

// appendError appends the answer to a request that failed.
func appendError(buf, id []byte, e *Error) []byte {
	return append(e.AppendContent(append(appendAnswer(buf, FrameError, id), `,"content":`...)), '}')
}

// AppendContent appends the content of an error reply. Its data must be JSON.
func (e *Error) AppendContent(buf []byte) []byte {
	buf = AppendString(append(buf, `{"code":`...), e.Code)
	buf = AppendString(append(buf, `,"message":`...), e.Message)
	if e.RetryAfter > 0 {
		ms := (min(e.RetryAfter, maxRetry) + time.Millisecond - 1) / time.Millisecond // rounded up
		buf = strconv.AppendInt(append(buf, `,"retry_ms":`...), int64(ms), 10)
	}
	if len(e.Data) > 0 {
		buf = append(append(buf, `,"data":`...), e.Data...)
	}
	return append(buf, '}')
}

// maxRetry is the longest RetryAfter.
const maxRetry = 365 * 24 * time.Hour

// DecodeError decodes the content of an error reply. It keeps no reference to p. If it returns an
// error, it has decoded the members that have the right type.
func DecodeError(p []byte) (Error, error) {
	var said struct {
		Code, Message string
		Retry         float64 `json:"retry_ms"`
		Data          json.RawMessage
	}
	err := json.Unmarshal(p, &said)
	e := Error{Code: said.Code, Message: said.Message, Data: said.Data}
	if ms := math.Ceil(said.Retry); ms > 0 {
		e.RetryAfter = time.Duration(min(ms, float64(maxRetry/time.Millisecond))) * time.Millisecond
	}
	return e, err
}

func appendAnswer(buf []byte, typ string, id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	buf = append(append(buf, `{"message_type":"`...), typ...)
	return append(append(buf, `","id":`...), id...)
}

// AppendCall appends a call of the server.
func AppendCall(buf, id []byte, method string, content []byte) []byte {
	buf = append(appendAnswer(buf, FrameCall, id), `,"method":`...)
	return AppendAnyContent(AppendString(buf, method), content)
}
