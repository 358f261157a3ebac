package wire

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVectorsHaveAllNames tests that the files in testdata/wire have a frame of each type and a
// request with each member. The tests of the clients in Go and JavaScript read the same files, so
// both spell these names like this package.
func TestVectorsHaveAllNames(t *testing.T) {
	requests, members := typesAndMembers(t, "client.json", "type")
	require.ElementsMatch(t, []string{
		FrameReply, FrameError, FrameCall, FramePing, RequestJoin, RequestRecover, RequestLeave,
		RequestSend, RequestPresence, RequestHistory, RequestAck, RequestResume, RequestRefresh,
	}, requests)
	require.ElementsMatch(t, RequestMembers(), members)

	frames, _ := typesAndMembers(t, "server.json", "message_type")
	for _, typ := range []string{
		TypeHello, FrameReply, FrameError, FrameCall, FrameJoined, FrameLeft, FramePosition,
		FrameSkipped, FrameLarge,
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

// typesAndMembers returns the types of the frames of a file, which are the values of the member
// typeMember, and the names of all members. It skips invalid frames.
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
		for name := range frame {
			allMembers[name] = true
		}
		allTypes[frame[typeMember].(string)] = true
	}
	return slices.Collect(maps.Keys(allTypes)), slices.Collect(maps.Keys(allMembers))
}
