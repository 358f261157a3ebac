package realtime

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

func plainOnly() *wire.Languages {
	l := &wire.Languages{}
	l[wire.ProtoPlain].Store(1)
	return l
}

// A message costs nothing more as long as nobody wants it compressed.
func TestSqueezeOnlyIfWanted(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("word ", 300) + `"`)}
	var tally tally
	off, on := press{tally: &tally}, press{from: 512, tally: &tally}
	f := plainOnly().Encode(&m, wire.Spot{})
	tally.deflating.Store(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { off.squeeze(&f) }))
	tally.deflating.Store(0)
	require.Zero(t, testing.AllocsPerRun(100, func() { on.squeeze(&f) }))
	require.Nil(t, f.Forms[wire.ProtoPlain].Deflated)
	require.Same(t, f.Forms[wire.ProtoPlain].Plain, f.Forms[wire.ProtoPlain].Of(true))

	tally.deflating.Store(1)
	on.squeeze(&f)
	require.NotNil(t, f.Forms[wire.ProtoPlain].Deflated)
	require.Same(t, f.Forms[wire.ProtoPlain].Deflated, f.Forms[wire.ProtoPlain].Of(true))
	require.Same(t, f.Forms[wire.ProtoPlain].Plain, f.Forms[wire.ProtoPlain].Of(false))
}

// A page sees nothing of a message before its end, so it is told of a large one.
func TestLargeFramesAreAnnounced(t *testing.T) {
	large, small := strings.Repeat("x", wire.LargeFrame), strings.Repeat("x", wire.LargeFrame-wire.Envelope-100)
	all := func(text string, binary []byte) map[string]*sendqueue.Frame {
		m := broker.Message{Type: wire.TypeChat, Content: json.RawMessage(`"` + text + `"`)}
		blob := broker.Message{Type: wire.TypeChat, Binary: binary}
		var tally tally
		tally.deflating.Store(1)
		press, random := press{from: 1, tally: &tally}, m
		noise := make([]byte, 3*len(text)) // which compress to more than half
		for i := range noise {
			noise[i] = 'a' + byte(rand.IntN(26))
		}
		random.Content = json.RawMessage(`"` + string(noise) + `"`)
		deflated := wire.Frames{}
		deflated.Forms[wire.ProtoV1].Plain = wire.EncodeIn(wire.ProtoV1, &random, &wire.Spot{})
		press.squeeze(&deflated)
		return map[string]*sendqueue.Frame{
			"text": wire.EncodeIn(wire.ProtoV1, &m, &wire.Spot{}), "binary": wire.EncodeIn(wire.ProtoV1, &blob, &wire.Spot{}),
			"answer": wire.Reply([]byte("1"), m.Content, nil), "compressed": deflated.Forms[wire.ProtoV1].Deflated,
		}
	}
	for name, f := range all(large, []byte(large)) {
		announcement := fmt.Sprintf(`{"message_type":"large","bytes":%d}`, len(f.Payload())+4)
		if len(f.Payload()) > 0xFFFF {
			announcement = fmt.Sprintf(`{"message_type":"large","bytes":%d}`, len(f.Payload())+10)
		}
		require.Equal(t, announcement, string(f.Wire()[2:2+len(announcement)]), name)
	}
	for name, f := range all(small[:1000], []byte(small)) {
		require.NotContains(t, string(f.Wire()), `"large"`, name)
	}
	m := broker.Message{Content: json.RawMessage(`"` + large + `"`)}
	require.NotContains(t, string(wire.EncodeIn(wire.ProtoPlain, &m, &wire.Spot{}).Wire()), `"large"`)
}

// A page that has asked for a sign of life while a message was on its way waits 10 s for it: what
// takes longer at 1 KB/s is announced.
func TestAPageIsToldOfWhatItWouldNotWaitFor(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)}
	require.Contains(t, string(wire.EncodeIn(wire.ProtoV1, &m, &wire.Spot{}).Wire()), `"large"`)
}
