package wire

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

func plainOnly() *Speakers {
	s := &Speakers{}
	s.Add(ProtoPlain, false, 1)
	return s
}

// A message that no connection takes compressed costs nothing more.
func TestCompressOnlyIfWanted(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("word ", 300) + `"`)}
	s := plainOnly()
	made := 0
	count := func() { made++ }
	off, on := NewCompressor(0, s, count), NewCompressor(512, s, count)
	f := Frames{Message: m}
	s.Encode(&f)
	s.deflating.Store(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { off.Compress(&f) }))
	s.deflating.Store(0)
	require.Zero(t, testing.AllocsPerRun(100, func() { on.Compress(&f) }))
	require.Nil(t, f.encodings[ProtoPlain].Deflated)
	require.Same(t, f.encodings[ProtoPlain].Plain, f.encodings[ProtoPlain].For(true))

	s.deflating.Store(1)
	require.Zero(t, made)
	on.Compress(&f)
	require.Equal(t, 1, made)
	require.NotNil(t, f.encodings[ProtoPlain].Deflated)
	require.Same(t, f.encodings[ProtoPlain].Deflated, f.encodings[ProtoPlain].For(true))
	require.Same(t, f.encodings[ProtoPlain].Plain, f.encodings[ProtoPlain].For(false))
}

// A page sees nothing of a message before its end, so a large one is announced.
func TestLargeFramesAreAnnounced(t *testing.T) {
	large, small := strings.Repeat("x", LargeFrame), strings.Repeat("x", LargeFrame-Overhead-100)
	all := func(text string, binary []byte) map[string]*sendqueue.Frame {
		m := broker.Message{Type: TypeChat, Content: json.RawMessage(`"` + text + `"`)}
		blob := broker.Message{Type: TypeChat, Binary: binary}
		speakers, random := &Speakers{}, m
		speakers.Add(ProtoV1, true, 1)
		noise := make([]byte, 3*len(text)) // which compress to more than half
		for i := range noise {
			noise[i] = 'a' + byte(rand.IntN(26))
		}
		random.Content = json.RawMessage(`"` + string(noise) + `"`)
		deflated := Frames{}
		deflated.encodings[ProtoV1].Plain = EncodeIn(ProtoV1, &random, &Envelope{})
		NewCompressor(1, speakers, func() {}).Compress(&deflated)
		return map[string]*sendqueue.Frame{
			"text": EncodeIn(ProtoV1, &m, &Envelope{}), "binary": EncodeIn(ProtoV1, &blob, &Envelope{}),
			"answer": Reply([]byte("1"), m.Content, nil), "compressed": deflated.encodings[ProtoV1].Deflated,
			"binary answer": BinaryReply([]byte("1"), binary),
			"call":          Call([]byte("1"), "m", Content{JSON: m.Content}),
			"binary call":   Call([]byte("1"), "m", Content{Binary: binary}),
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
	require.NotContains(t, string(EncodeIn(ProtoPlain, &m, &Envelope{}).Wire()), `"large"`)
}

// A page waits 10 s for the answer to its ping, so a message that takes longer at 1 KB/s is
// announced.
func TestFramesThatOutlastThePingAreAnnounced(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)}
	require.Contains(t, string(EncodeIn(ProtoV1, &m, &Envelope{}).Wire()), `"large"`)
	require.Contains(t, string(Reply(nil, nil, &Error{Data: m.Content}).Wire()), `"large"`)
}

// A message counts in the budget with the frame that is compressed and with the one that is not.
func TestCompressedFramesAreSettled(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("word ", 300) + `"`)}
	s := &Speakers{}
	s.Add(ProtoV1, true, 1)
	f := Frames{Message: m}
	s.Encode(&f)
	NewCompressor(512, s, func() {}).Compress(&f)
	var totals sendqueue.Totals
	q := sendqueue.New(&sendqueue.Config{Totals: &totals}, nil, nil)
	used := func(deflates bool) int64 {
		before := totals.Budget.Used()
		require.Equal(t, sendqueue.Queued,
			q.Push(f.For(ProtoV1, deflates), sendqueue.Message, sendqueue.DropNewest))
		f.Settle(&totals.Budget)
		return totals.Budget.Used() - before
	}
	require.Greater(t, used(false), int64(1500))
	require.Greater(t, used(true), int64(50))
}
