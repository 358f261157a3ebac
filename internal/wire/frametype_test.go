package wire

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// TestVectorsHaveAllNames tests that the files in testdata/wire have all types and all members of
// requests and frames. The tests of the clients in Go and JavaScript read the same files, so both
// spell these names like this package.
func TestVectorsHaveAllNames(t *testing.T) {
	requests, members := typesAndMembers(t, "client.json", "type")
	require.ElementsMatch(t, []string{
		FrameReply, FrameError, FrameCall, FramePing, RequestJoin, RequestRecover, RequestLeave,
		RequestSend, RequestPresence, RequestHistory, RequestAck, RequestResume, RequestRefresh,
		RequestState, RequestSeen,
	}, requests)
	require.ElementsMatch(t, RequestMembers(), members)

	frames, members := typesAndMembers(t, "server.json", "message_type")
	require.ElementsMatch(t, encodedMembers(t), members)
	for _, typ := range []string{
		TypeWelcome, FrameReply, FrameError, FrameCall, FrameJoined, FrameLeft, FramePosition,
		FrameSkipped, FrameLarge, FramePresence, FrameLatest,
	} {
		require.Contains(t, frames, typ)
	}
}

// TestFrameTypesAreReserved tests that no application can send a message that a client would take
// for a frame of the protocol.
func TestFrameTypesAreReserved(t *testing.T) {
	frames, _ := typesAndMembers(t, "server.json", "message_type")
	for _, typ := range append(frames, FramePing, FramePong) {
		require.True(t, IsMessage(typ) || Reserved(typ), typ)
	}
	require.True(t, Reserved(FrameLarge))
}

// encodedMembers returns the names of all members of frames that this package encodes.
func encodedMembers(t *testing.T) []string {
	m := broker.Message{Type: TypeChat, Guest: "g", ID: "i", Binary: []byte("x"), Ephemeral: true}
	at := &Envelope{Conn: "c", Room: "lobby", At: broker.Position{Epoch: "r1", Offset: 2}, Prev: 1}
	// The frame with the size comes first. It has a header of two bytes with its length.
	large := Announced(sendqueue.NewFrame(sendqueue.OpText, make([]byte, LargeFrame))).Wire()
	value := &broker.Message{Type: "shape", Latest: "k"}
	presence := &PresenceFrame{
		Room: "lobby", Prev: 1, Version: 2, Show: ShowMembers, Members: []*Entry{{Key: "a"}}, Gone: []string{"b"},
	}
	names := map[string]bool{}
	for _, p := range [][]byte{
		EncodeIn(ProtoV1, value, &Envelope{Latest: true}).Payload(),
		presence.Encode().Payload(),
		LatestKeys("lobby", []string{"k"}).Payload(),
		LatestVersion("lobby", 1).Payload(),
		AppendKept(nil, &m, at),
		AppendCall(nil, []byte("1"), "method", nil),
		PositionFrame("lobby", at.At, broker.ReasonExpired).Payload(),
		SkippedFrame("lobby", 1, at.At).Payload(),
		large[2 : 2+large[1]],
	} {
		var frame map[string]any
		require.NoError(t, json.Unmarshal(p, &frame))
		maps.Copy(names, namesOf(frame))
	}
	return slices.Collect(maps.Keys(names))
}

// typesAndMembers returns the types of the frames of a file, which are the values of the member
// typeMember, and the names of all members, also of the messages in a page of history. It skips
// invalid frames.
func typesAndMembers(t *testing.T, file, typeMember string) (types, members []string) {
	p, err := os.ReadFile("../../testdata/wire/" + file)
	require.NoError(t, err)
	var vectors []struct {
		Kind, Frame string
		Bytes       []byte `json:"frame_base64"`
	}
	require.NoError(t, json.Unmarshal(p, &vectors))
	allTypes, allMembers := map[string]bool{}, map[string]bool{}
	for _, v := range vectors {
		text := []byte(v.Frame)
		if v.Bytes != nil {
			n, size := binary.Uvarint(v.Bytes)
			text = v.Bytes[max(size, 0):min(max(size, 0)+int(n), len(v.Bytes))]
		}
		var frame map[string]any
		if v.Kind == "wrong" || json.Unmarshal(text, &frame) != nil {
			continue
		}
		maps.Copy(allMembers, namesOf(frame))
		allTypes[frame[typeMember].(string)] = true
	}
	return slices.Collect(maps.Keys(allTypes)), slices.Collect(maps.Keys(allMembers))
}

// namesOf returns the names of the members of a frame, and of the messages in it.
func namesOf(frame map[string]any) map[string]bool {
	names := map[string]bool{}
	for name := range frame {
		names[name] = true
	}
	content, _ := frame["content"].(map[string]any)
	messages, _ := content["messages"].([]any)
	for _, m := range messages {
		maps.Copy(names, namesOf(m.(map[string]any)))
	}
	return names
}
