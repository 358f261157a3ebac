package client

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/wire"
)

// vector is one of the frames in testdata/wire.
type vector struct {
	Name    string
	Kind    string
	Request *outgoing
	Binary  []byte
	Frame   string
	Bytes   []byte `json:"frame_base64"`

	Message *struct {
		Type    string
		Sender  string
		Guest   string
		Conn    string
		Content json.RawMessage
		Binary  []byte
		Time    float64
		ID      string
		Room    string
		Prev    uint64
		realtime.Position
		Ephemeral bool
		Latest    string
	}
	Presence json.RawMessage
	Keys     []string
	Version  uint64 `json:"ver"`
	Position realtime.Position
	From     uint64
	Reason   realtime.Reason
	ID       json.RawMessage
	Content  json.RawMessage
	Method   string
	Room     string
	Error    json.RawMessage
}

func (v *vector) frame() frame {
	if v.Bytes != nil {
		return frame{binary: true, data: v.Bytes}
	}
	return frame{data: []byte(v.Frame)}
}

func vectors(t testing.TB, file string) (vs []vector) {
	p, err := os.ReadFile("../testdata/wire/" + file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(p, &vs))
	require.NotEmpty(t, vs)
	return vs
}

// TestMemberNames tests that the client and package wire give the members of requests and frames
// the same names.
func TestMemberNames(t *testing.T) {
	require.ElementsMatch(t, memberNames(reflect.TypeFor[outgoing]()), wire.RequestMembers())

	presence := &wire.PresenceFrame{
		Prev: 1, Version: 2, Show: "members", Gone: []string{"b"},
		Members: []*wire.Entry{{Key: "a", User: "u", Info: []byte("1"), State: []byte("1"), Away: true}},
	}
	list := wire.MemberList("members", 1, 1, nil)
	shown := namesIn(t, presence.Encode().Payload(), list)
	delete(shown, "message_type")
	require.ElementsMatch(t, slices.Collect(maps.Keys(shown)), memberNames(reflect.TypeFor[presenceFrame]()))
	var frame struct{ Members map[string]json.RawMessage }
	require.NoError(t, json.Unmarshal(presence.Encode().Payload(), &frame))
	require.ElementsMatch(t, slices.Collect(maps.Keys(namesIn(t, frame.Members["a"]))), memberNames(reflect.TypeFor[entry]()))
	var ofKeys, ofValues [][]byte // frames that TestVectorsOfTheServer compares with package wire
	for _, v := range vectors(t, "server.json") {
		switch {
		case v.Kind == "latest":
			ofKeys = append(ofKeys, v.frame().data)
		case v.Kind == "message" && v.Message.Latest != "" && v.Message.Binary == nil:
			ofValues = append(ofValues, v.frame().data)
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(namesIn(t, ofKeys...))),
		append(memberNames(reflect.TypeFor[valuesFrame]()), "message_type"))

	m := broker.Message{Type: "chat", Guest: "g", ID: "i", Content: json.RawMessage("1"), Ephemeral: true}
	at := &wire.Envelope{Conn: "c", Room: "lobby", At: broker.Position{Epoch: "r1", Offset: 2}, Prev: 1}
	binary := m
	binary.Content, binary.Binary = nil, []byte("x")
	sent := namesIn(t, append(ofValues,
		wire.EncodeIn(wire.ProtoV1, &m, at).Payload(),
		wire.AppendKept(nil, &binary, at),
		wire.AppendCall(nil, []byte("1"), "method", nil),
		wire.PositionFrame("lobby", at.At, realtime.ReasonExpired).Payload(),
		wire.SkippedFrame("lobby", 1, at.At).Payload(),
		[]byte(`{"bytes":1}`), // of large frames
	)...)
	require.ElementsMatch(t, slices.Collect(maps.Keys(sent)), memberNames(reflect.TypeFor[incoming]()))
}

// namesIn returns the names of the members of objects.
func namesIn(t *testing.T, objects ...[]byte) map[string]bool {
	names := map[string]bool{}
	for _, p := range objects {
		var object map[string]any
		require.NoError(t, json.Unmarshal(p, &object), "%s", p)
		for name := range object {
			names[name] = true
		}
	}
	return names
}

// memberNames returns the names that encoding/json gives the fields of a struct.
func memberNames(t reflect.Type) (names []string) {
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// TestEncodeVectors tests that requests and answers are encoded like the vectors.
func TestEncodeVectors(t *testing.T) {
	for _, v := range vectors(t, "client.json") {
		switch v.Kind {
		case "request", "seen":
			v.Request.binary = v.Binary
			f, err := v.Request.encode()
			require.NoError(t, err, v.Name)
			require.Equal(t, v.Bytes != nil, f.binary, v.Name)
			if f.binary {
				require.Equal(t, v.Bytes, f.data, v.Name)
			} else {
				require.JSONEq(t, v.Frame, string(f.data), v.Name)
			}
		case "answer":
			f := newAnswer(json.RawMessage("7"), v.Request.Content, nil)
			if v.Binary != nil {
				require.Equal(t, v.frame(), newAnswer(json.RawMessage("7"), v.Binary, nil), v.Name)
				continue
			}
			if v.Request.Type == "error" {
				e := (&incoming{Type: "error", Content: v.Request.Content}).failure()
				f = newAnswer(json.RawMessage("7"), nil, e)
			}
			require.JSONEq(t, v.Frame, string(f.data), v.Name)
		case "ping":
			require.Equal(t, v.Frame, string(ping.data))
		default:
			require.Equal(t, "wrong", v.Kind)
		}
	}
}

// TestDecodeVectors tests that frames from the server are decoded like the vectors.
func TestDecodeVectors(t *testing.T) {
	for _, v := range vectors(t, "server.json") {
		in, ok := decode(v.frame())
		switch v.Kind {
		case "pong":
			require.False(t, ok, v.Name)
			continue
		case "ignored":
			require.False(t, in.isMessage(), v.Name)
			continue
		}
		require.True(t, ok, v.Name)
		switch v.Kind {
		case "message":
			requireMessage(t, &v, &in)
		case "call":
			require.Equal(t, []any{"call", v.ID, v.Method}, []any{in.Type, in.ID, in.Method}, v.Name)
			requireContent(t, &v, &in)
		case "reply":
			require.Nil(t, in.failure(), v.Name)
			require.Equal(t, string(v.ID), string(in.ID), v.Name)
			requireContent(t, &v, &in)
		case "position", "skipped":
			u := in.positionUpdate()
			require.False(t, in.isMessage(), v.Name)
			require.Equal(t, []any{v.Room, v.Position, v.Reason}, []any{in.Room, u.to, u.reason}, v.Name)
			require.Equal(t, cmp.Or(v.From, math.MaxUint64), u.from, v.Name)
		case "joined":
			require.Equal(t, []any{"joined", v.Room, false}, []any{in.Type, in.Room, in.isMessage()}, v.Name)
			requireContent(t, &v, &in)
		case "left":
			require.Equal(t, []any{"left", v.Room, false}, []any{in.Type, in.Room, in.isMessage()}, v.Name)
		case "presence":
			requirePresence(t, &v, &in)
		case "latest":
			var f valuesFrame
			require.NoError(t, json.Unmarshal(v.frame().data, &f), v.Name)
			require.Equal(t, valuesFrame{Room: v.Room, Keys: v.Keys, Version: v.Version}, f, v.Name)
			require.True(t, in.isStateFrame() && !in.isMessage(), v.Name)
		case "refusal":
			require.Zero(t, in.requestID(), v.Name)
			require.Equal(t, []any{"forbidden", v.Room}, []any{in.failure().Code, in.refusedIn()}, v.Name)
		case "error":
			e := in.failure()
			require.JSONEq(t, string(v.Error), string((*wire.Error)(e).AppendContent(nil)), v.Name)
			require.Equal(t, string(v.ID), string(in.ID), v.Name)
		default:
			require.Fail(t, "unknown kind", v.Kind)
		}
	}
}

func requireContent(t *testing.T, v *vector, in *incoming) {
	t.Helper()
	require.Equal(t, v.Content == nil, in.Content == nil, v.Name)
	require.Equal(t, v.Binary, in.binary, v.Name)
	if v.Content != nil {
		require.JSONEq(t, string(v.Content), string(in.Content), v.Name)
	}
}

func requireMessage(t *testing.T, v *vector, in *incoming) {
	t.Helper()
	want := v.Message
	if want.Type == "welcome" {
		w := &welcome{MaxMessageBytes: 65536, ReconnectMS: 500}
		if v.Name != "welcome" {
			w.Inbox, w.Session = &realtime.Position{Epoch: "i1", Offset: 3}, "s1"
		}
		require.Equal(t, w, in.welcome())
		return
	}
	require.True(t, in.isMessage(), v.Name)
	got := in.message()
	require.Equal(t, Message{
		Type: want.Type, Sender: want.Sender, Guest: want.Guest, Conn: want.Conn,
		Room: want.Room, ID: want.ID,
		Content: got.Content, Binary: want.Binary, Position: want.Position,
		Time:      time.UnixMilli(int64(math.Round(want.Time * 1000))),
		Ephemeral: want.Ephemeral, Latest: want.Latest,
	}, got, v.Name)
	require.Equal(t, want.Prev, in.Prev, v.Name)
	require.Equal(t, want.Latest != "", in.isStateFrame(), v.Name)
	if want.Binary == nil {
		require.JSONEq(t, string(want.Content), string(got.Content), v.Name)
	} else {
		require.Nil(t, got.Content, v.Name)
	}
}

func requirePresence(t *testing.T, v *vector, in *incoming) {
	t.Helper()
	require.True(t, in.isStateFrame() && !in.isMessage(), v.Name)
	var content bytes.Buffer
	require.NoError(t, json.Compact(&content, v.Presence))
	var want struct {
		Room, Show string
		Prev       *uint64
		Ver        uint64
		Users      int `json:"user_count"`
		Conns      int `json:"connection_count"`
		Members    map[string]*entry
	}
	require.NoError(t, json.Unmarshal(content.Bytes(), &want), v.Name)
	var got presenceFrame
	require.NoError(t, json.Unmarshal(v.frame().data, &got), v.Name)
	require.Equal(t, presenceFrame{
		Room: want.Room, Prev: want.Prev, Version: want.Ver, Show: want.Show,
		UserCount: &want.Users, ConnCount: &want.Conns, Members: want.Members,
	}, got, v.Name)
}

// TestDecodeInvalid tests that invalid frames are ignored.
func TestDecodeInvalid(t *testing.T) {
	for _, v := range vectors(t, "client.json") {
		if in, ok := decode(v.frame()); v.Kind == "wrong" {
			require.False(t, ok && in.isMessage(), v.Name)
		}
	}
	for _, s := range []string{
		"", "null", "[]", "7", "{}", `{"message_type":7}`, `{"message_type":"chat","timestamp":"x"}`,
		`{"message_type":"chat"`, "\xff", `{"message_type":""}`,
	} {
		_, ok := decode(frame{data: []byte(s)})
		require.False(t, ok, s)
	}
	failure := `{"message_type":"error","id":1}`
	for _, s := range []string{"", "\x00", "\x80", "\x7f{}", "\x02{}", string(rune(len(failure))) + failure,
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01{}", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f{}",
	} {
		_, ok := decode(frame{binary: true, data: []byte(s)})
		require.False(t, ok, "%q", s)
	}
}

// TestDecodeWrongTypes tests that members of a wrong type are ignored.
func TestDecodeWrongTypes(t *testing.T) {
	for s, id := range map[string]uint64{
		`{"message_type":"error"}`:                               0,
		`{"message_type":"error","id":null,"content":7}`:         0,
		`{"message_type":"error","id":"1","content":{"code":7}}`: 0,
		`{"message_type":"error","id":-1,"content":[]}`:          0,
		`{"message_type":"error","id":1.5}`:                      0,
		`{"message_type":"error","id":18446744073709551615}`:     1<<64 - 1,
	} {
		in, ok := decode(frame{data: []byte(s)})
		require.True(t, ok, s)
		require.Equal(t, id, in.requestID(), s)
		require.Equal(t, "internal", in.failure().Code, s)
	}
	in, _ := decode(frame{data: []byte(`{"message_type":"chat","sender_id":null,"id":7,"room":null}`)})
	require.Equal(t, Message{Type: "chat", Time: time.Unix(0, 0)}, in.message())
	in, _ = decode(frame{data: []byte(`{"message_type":"chat","epoch":"r1"}`)})
	require.Equal(t, Message{Type: "chat", Time: time.Unix(0, 0)}, in.message(), "no position")
	in, _ = decode(frame{binary: true, data: []byte("\x23" + `{"message_type":"chat","content":1}` + "b")})
	require.Equal(t, Message{Type: "chat", Binary: []byte("b"), Time: time.Unix(0, 0)}, in.message())
}

// TestDecodeHistoryVectors tests that the messages of a page of history are the same as those that
// are sent one by one.
func TestDecodeHistoryVectors(t *testing.T) {
	var want []Message
	var got History
	for _, v := range vectors(t, "server.json") {
		in, _ := decode(v.frame())
		switch v.Name {
		case "kept by a room", "binary, kept by a room":
			want = append(want, in.message())
		case "history":
			var err error
			got, err = decodeHistory(in.Content)
			require.NoError(t, err)
		}
	}
	require.Len(t, want, 2)
	require.Equal(t, History{Messages: want, More: true, Top: realtime.Position{Epoch: "r1", Offset: 9}}, got)
	for _, s := range []string{"", "7", `{"top":-1}`, `{"messages":{}}`} {
		_, err := decodeHistory(json.RawMessage(s))
		require.Error(t, err, s)
	}
	got, err := decodeHistory(json.RawMessage(`{"messages":[7,{"message_type":"reply"},` +
		`{"message_type":"chat","content":"?","encoding":"base64"}]}`))
	require.NoError(t, err)
	require.Len(t, got.Messages, 1)
	require.Nil(t, got.Messages[0].Binary)
}

func FuzzDecode(f *testing.F) {
	for _, file := range []string{"server.json", "client.json"} {
		for _, v := range vectors(f, file) {
			f.Add(v.frame().binary, v.frame().data)
		}
	}
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		in, ok := decode(frame{binary, data})
		if !ok {
			return
		}
		require.NotEmpty(t, in.Type)
		_ = in.welcome()
		_ = in.requestID()
		_ = in.failure()
		for _, at := range []position{{}, {Epoch: "r1", Offset: 7}} {
			u := in.positionUpdate()
			require.False(t, u.reason == "" && u.applies(at) && covers(at, u.to))
		}
		h, err := decodeHistory(in.Content)
		require.True(t, err == nil || h.Messages == nil)
		in.decodeBase64()
		m := in.message()
		require.LessOrEqual(t, len(m.Binary), len(data))
		require.True(t, m.Epoch != "" || m.Offset == 0)
		require.True(t, m.Binary == nil || m.Content == nil)
		if m.Content != nil {
			require.True(t, json.Valid(m.Content))
		}
	})
}
