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
)

func plainOnly() *languages {
	l := &languages{}
	l[protoPlain].Store(1)
	return l
}

// A message costs nothing more as long as nobody wants it compressed.
func TestSqueezeOnlyIfWanted(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("word ", 300) + `"`)}
	var tally tally
	off, on := press{tally: &tally}, press{from: 512, tally: &tally}
	f := plainOnly().encode(&m, spot{})
	tally.deflating.Store(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { off.squeeze(&f) }))
	tally.deflating.Store(0)
	require.Zero(t, testing.AllocsPerRun(100, func() { on.squeeze(&f) }))
	require.Nil(t, f.forms[protoPlain].deflated)
	require.Same(t, f.forms[protoPlain].plain, f.forms[protoPlain].of(true))

	tally.deflating.Store(1)
	on.squeeze(&f)
	require.NotNil(t, f.forms[protoPlain].deflated)
	require.Same(t, f.forms[protoPlain].deflated, f.forms[protoPlain].of(true))
	require.Same(t, f.forms[protoPlain].plain, f.forms[protoPlain].of(false))
}

// A page sees nothing of a message before its end, so it is told of a large one.
func TestLargeFramesAreAnnounced(t *testing.T) {
	large, small := strings.Repeat("x", largeFrame), strings.Repeat("x", largeFrame-envelope-100)
	all := func(text string, binary []byte) map[string]*sendqueue.Frame {
		m := broker.Message{Type: typeChat, Content: json.RawMessage(`"` + text + `"`)}
		blob := broker.Message{Type: typeChat, Binary: binary}
		var tally tally
		tally.deflating.Store(1)
		press, random := press{from: 1, tally: &tally}, m
		noise := make([]byte, len(text))
		for i := range noise {
			noise[i] = 'a' + byte(rand.IntN(26))
		}
		random.Content = json.RawMessage(`"` + string(noise) + string(noise) + `"`)
		deflated := frames{}
		deflated.forms[protoV1].plain = encodeIn(protoV1, &random, &spot{})
		press.squeeze(&deflated)
		return map[string]*sendqueue.Frame{
			"text": encodeIn(protoV1, &m, &spot{}), "binary": encodeIn(protoV1, &blob, &spot{}),
			"answer": reply([]byte("1"), m.Content, nil), "compressed": deflated.forms[protoV1].deflated,
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
	require.NotContains(t, string(encodeIn(protoPlain, &m, &spot{}).Wire()), `"large"`)
}

// A page that has asked for a sign of life while a message was on its way waits 10 s for it: what
// takes longer at 1 KB/s is announced.
func TestAPageIsToldOfWhatItWouldNotWaitFor(t *testing.T) {
	m := broker.Message{Content: json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)}
	require.Contains(t, string(encodeIn(protoV1, &m, &spot{}).Wire()), `"large"`)
}
