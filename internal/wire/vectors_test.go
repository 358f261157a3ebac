package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
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
		Latest                        string
		Version                       uint64 `json:"ver"`
		broker.Position
	}
	Request struct {
		Type, Room, User, Conn string
		MessageType            string `json:"message_type"`
		MessageID              string `json:"message_id"`
		Method, Token          string
		TTL                    int64 `json:"ttl_ms"`
		All, Server, Receipt   bool
		Ephemeral              bool
		History, Limit         int
		Since                  broker.Position
		Before, After, Offset  uint64
		Epoch, Session         string
		ID, Content            json.RawMessage

		Latest, Presence, State json.RawMessage
		Frames                  uint64
	}
	Presence           *presenceVector
	Keys               []string
	Version            uint64 `json:"ver"`
	ID, Content, Error json.RawMessage
	Method, Room       string
	Refused            string
	Binary             []byte

	Position broker.Position
	From     uint64
	Reason   broker.Reason
}

// presenceVector is what a frame of presence says.
type presenceVector struct {
	Room, Show string
	Prev       uint64
	Version    uint64                  `json:"ver"`
	Users      int                     `json:"user_count"`
	Conns      int                     `json:"connection_count"`
	Members    map[string]*entryVector // nil: gone
}

// entryVector is an entry.
type entryVector struct {
	User        string
	Info, State json.RawMessage
	Away        bool
}

// members returns the entries and the keys of those that are gone, sorted by key.
func (v *presenceVector) members(t *testing.T) (entries []*Entry, gone []string) {
	for _, key := range slices.Sorted(maps.Keys(v.Members)) {
		e := v.Members[key]
		if e == nil {
			gone = append(gone, key)
			continue
		}
		entries = append(entries, &Entry{
			Key: key, User: e.User, Info: compact(t, e.Info), State: compact(t, e.State), Away: e.Away,
		})
	}
	return entries, gone
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
					Ephemeral: v.Message.Ephemeral, Latest: v.Message.Latest,
				}
				at := &Envelope{
					Conn: v.Message.Conn,
					Room: v.Message.Room, At: v.Message.Position, Prev: v.Message.Prev,
					Latest: v.Message.Latest != "",
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
				got = Refusal(v.Refused, v.Room, &e)
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
			case "presence":
				p := v.Presence
				members, gone := p.members(t)
				got = (&PresenceFrame{
					Room: p.Room, Prev: p.Prev, Version: p.Version, Show: p.Show,
					Users: p.Users, Conns: p.Conns, Members: members, Gone: gone,
				}).Encode()
			case "latest":
				if got = LatestKeys(v.Room, v.Keys); v.Version > 0 {
					got = LatestVersion(v.Room, v.Version)
				}
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
	kinds := map[string]CommandKind{
		"request": CmdRequest, "answer": CmdAnswer, "ping": CmdPing, "seen": CmdSeen,
	}
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
			latest, asked := v.state(t)
			require.Equal(t, Request{
				Name: v.Request.Type, Room: v.Request.Room, User: v.Request.User, Conn: v.Request.Conn,
				All: v.Request.All, Server: v.Request.Server, Typ: v.Request.MessageType, MessageID: v.Request.MessageID,
				Method: v.Request.Method, Token: v.Request.Token, Latest: latest, State: asked,
				Receipt: v.Request.Receipt, Ephemeral: v.Request.Ephemeral,
				TTL:     time.Duration(v.Request.TTL) * time.Millisecond,
				History: v.Request.History, Since: v.Request.Since, Limit: v.Request.Limit,
				Before: v.Request.Before, After: v.Request.After, Forward: v.Request.After > 0,
				Epoch:  v.Request.Epoch,
				Offset: max(v.Request.Offset, v.Request.Frames), Session: v.Request.Session,
			}, *r)
		})
	}
}

// state returns the key of a value, and what the request asks and says about the state of a room.
func (v *vector) state(t *testing.T) (key string, asked *RoomState) {
	r := &v.Request
	if len(r.Latest) > 0 && r.Latest[0] == '"' {
		require.NoError(t, json.Unmarshal(r.Latest, &key))
		return key, nil
	}
	if r.Latest == nil && r.Presence == nil && r.State == nil {
		return "", nil
	}
	asked = &RoomState{HasValues: r.Latest != nil, Watch: r.Presence != nil}
	if r.Latest != nil {
		require.NoError(t, json.Unmarshal(r.Latest, &asked.Values))
	}
	if r.Presence != nil && string(r.Presence) != "true" {
		require.NoError(t, json.Unmarshal(r.Presence, &asked.Presence))
	}
	if r.State != nil {
		asked.Own = compact(t, r.State)
	}
	return "", asked
}

// The answer to a request for presence has the entries of the frames.
func TestVectorOfMemberList(t *testing.T) {
	var content presenceVector
	for _, v := range vectors(t, "server.json") {
		if v.Name != "answer to presence" {
			continue
		}
		require.NoError(t, json.Unmarshal(v.Content, &content))
		var entries []Entry
		members, _ := content.members(t)
		for _, e := range members {
			entries = append(entries, *e)
		}
		got := Reply(v.ID, MemberList(content.Show, content.Users, content.Conns, entries), nil)
		require.Equal(t, v.Frame, string(got.Payload()))
		return
	}
	t.Fatal("no such vector")
}
