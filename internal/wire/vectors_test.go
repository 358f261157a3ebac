package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// vector is a frame of testdata/wire, with what it says.
type vector struct {
	Name, Kind string

	Frame string // text
	Bytes []byte `json:"frame_base64"` // binary
	Plain string // the same for a plain client

	Message struct {
		Type, Sender, Guest, ID, Room string
		Conn                          string
		Content                       json.RawMessage
		Binary                        []byte
		Time                          float64
		Prev                          uint64
		Ephemeral                     bool
		broker.Position
	}
	Request struct {
		Type, Room, User, Conn string
		MessageType            string `json:"message_type"`
		MessageID              string `json:"message_id"`
		Method, Token, Latest  string
		TTL                    int64 `json:"ttl_ms"`
		All, Server, Receipt   bool
		Ephemeral              bool
		History, Limit         int
		Since                  broker.Position
		Before, After, Offset  uint64
		Epoch, Session         string
		ID, Content            json.RawMessage
	}
	ID, Content, Error json.RawMessage
	Method, Room       string
	Refused            string
	Binary             []byte

	Position broker.Position
	From     uint64
	Reason   broker.Reason
}

func (v *vector) frame() *sendqueue.Frame {
	if v.Bytes != nil {
		return sendqueue.NewFrame(sendqueue.OpBinary, v.Bytes)
	}
	return sendqueue.NewFrame(sendqueue.OpText, []byte(v.Frame))
}

func vectors(t *testing.T, file string) []vector {
	p, err := os.ReadFile("../../testdata/wire/" + file)
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(p, &all))
	require.NotEmpty(t, all)
	return all
}

// The server writes the vectors byte for byte.
func TestVectorsOfTheServer(t *testing.T) {
	for _, v := range vectors(t, "server.json") {
		t.Run(v.Name, func(t *testing.T) {
			var got *sendqueue.Frame
			switch v.Kind {
			case "message":
				m := broker.Message{
					Type: v.Message.Type, Sender: v.Message.Sender, Guest: v.Message.Guest, ID: v.Message.ID,
					Content: compact(t, v.Message.Content), Binary: v.Message.Binary,
					Time:      time.UnixMilli(int64(math.Round(v.Message.Time * 1000))),
					Ephemeral: v.Message.Ephemeral,
				}
				at := &Envelope{
					Conn: v.Message.Conn,
					Room: v.Message.Room, At: v.Message.Position, Prev: v.Message.Prev,
				}
				got = EncodeIn(ProtoV1, &m, at)
				if m.Type != TypeWelcome {
					require.Equal(t, v.Plain, string(EncodeIn(ProtoPlain, &m, at).Payload()))
				}
			case "reply":
				got = Reply(v.ID, compact(t, v.Content), nil)
				if v.Binary != nil {
					got = BinaryReply(v.ID, v.Binary)
				}
			case "error":
				e, err := DecodeError(compact(t, v.Error))
				require.NoError(t, err)
				got = Reply(v.ID, nil, &e)
			case "refusal":
				var e Error
				require.NoError(t, json.Unmarshal(v.Error, &e))
				got = Refusal(v.Refused, &e)
			case "call":
				got = Call(v.ID, v.Method, Content{JSON: compact(t, v.Content), Binary: v.Binary})
			case "joined":
				var at struct {
					broker.Position
					Top uint64
				}
				if v.Content != nil {
					require.NoError(t, json.Unmarshal(v.Content, &at))
				}
				got = (&Joined{At: at.Position, Top: at.Top}).Frame(v.Room)
			case "left":
				got = Left(v.Room)
			case "pong":
				got = Pong()
			case "position":
				got = PositionFrame(v.Room, v.Position, v.Reason)
			case "skipped":
				require.EqualValues(t, "slow", v.Reason)
				got = SkippedFrame(v.Room, v.From, v.Position)
			case "ignored":
				return
			default:
				t.Fatal("unknown kind")
			}
			require.Equal(t, string(v.frame().Payload()), string(got.Payload()))
			require.Equal(t, v.frame().Op(), got.Op())
		})
	}
}

// compact takes out the spaces that a file has for its readers.
func compact(t *testing.T, p json.RawMessage) []byte {
	var out bytes.Buffer
	if p != nil {
		require.NoError(t, json.Compact(&out, p))
	}
	return out.Bytes()
}

// The requests of the vectors are decoded. Those that are invalid are in TestV1Vectors.
func TestVectorsOfClients(t *testing.T) {
	kinds := map[string]CommandKind{"request": CmdRequest, "answer": CmdAnswer, "ping": CmdPing}
	for _, v := range vectors(t, "client.json") {
		kind, ok := kinds[v.Kind]
		if !ok {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			f := v.frame()
			cmd := DecodeV1(f.Op(), f.Payload())
			require.Equal(t, kind, cmd.Kind)
			if kind == CmdPing {
				return
			}
			r := cmd.Req
			require.NoError(t, r.Wrong)
			require.JSONEq(t, cmp.Or(string(v.Request.ID), "null"), cmp.Or(string(r.ID), "null"))
			require.JSONEq(t, cmp.Or(string(v.Request.Content), "null"), cmp.Or(string(r.Content), "null"))
			require.Equal(t, v.Binary, r.Binary)
			r.ID, r.Content, r.Binary = nil, nil, nil
			require.Equal(t, Request{
				Name: v.Request.Type, Room: v.Request.Room, User: v.Request.User, Conn: v.Request.Conn,
				All: v.Request.All, Server: v.Request.Server, Typ: v.Request.MessageType, MessageID: v.Request.MessageID,
				Method: v.Request.Method, Token: v.Request.Token, Latest: v.Request.Latest,
				Receipt: v.Request.Receipt, Ephemeral: v.Request.Ephemeral,
				TTL:     time.Duration(v.Request.TTL) * time.Millisecond,
				History: v.Request.History, Since: v.Request.Since, Limit: v.Request.Limit,
				Before: v.Request.Before, After: v.Request.After, Forward: v.Request.After > 0,
				Epoch:  v.Request.Epoch,
				Offset: v.Request.Offset, Session: v.Request.Session,
			}, *r)
		})
	}
}
