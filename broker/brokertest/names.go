package brokertest

import (
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func nameRules() []rule {
	return []rule{
		{"names of streams are independent", names},
		{"names of readers are independent", readers},
	}
}

// hostile are names that a broker might misread as a path, a pattern, a separator or an escape.
func hostile() []string {
	return []string{
		"a", "b", "a/b", "a//b", "a/", "/a", "a\x00b", "a\x00", "\x00", "..", ".", "../a", "*", ">",
		"a.*", "a.>", "a:b", "a-b", "a b", " ", "%2F", "a%2Fb", "A", "é", "e\u0301", "日本語", "🙂",
		"\u202e", "\xff", "\xfe", "\xff\xfe", "\ufffd", "'; drop", "\"", "\\", "\n", "{a}", "$a", "#",
		strings.Repeat("x", 255), strings.Repeat("x", 254), strings.Repeat("é", 127) + "x",
	}
}

func names(s *stage) {
	var streams []string
	for _, name := range hostile() {
		streams = append(streams, broker.RoomStream(name), broker.InboxStream(name))
	}
	for i, stream := range streams {
		s.subscribe(stream)
		s.publish(note(stream, i))
	}
	epochs := map[string]string{}
	for i, stream := range streams {
		page := s.read(stream, broker.Query{})
		require.Equal(s.t, []int{i}, numbers(s.t, page.Publications), "%q", stream)
		require.Equal(s.t, stream, page.Publications[0].Stream)
		require.Empty(s.t, epochs[page.Top.Epoch], "%q", stream)
		epochs[page.Top.Epoch] = stream
		require.Equal(s.t, []int{i}, numbers(s.t, s.delivered(stream)), "%q", stream)
	}
}

func readers(s *stage) {
	at := s.fill("user/a", 2)
	s.fill("user/ab", 2)
	for _, reader := range hostile() {
		require.NoError(s.t, s.b.Ack(s.t.Context(), "user/a", reader, at[0]), "%q", reader)
		require.Equal(s.t, at[0].Offset, s.cursor("user/a", reader).Offset)
	}
	require.NoError(s.t, s.b.Ack(s.t.Context(), "user/a", "a", at[1]))
	for _, reader := range hostile()[1:] {
		require.Equal(s.t, at[0].Offset, s.cursor("user/a", reader).Offset, "%q", reader)
	}
	require.Zero(s.t, s.cursor("user/ab", "a").Offset)
	floor := s.read("user/a", broker.Query{}).Floor
	require.Equal(s.t, floor, s.cursor("user/a", "nobody yet").Offset)
	require.Zero(s.t, s.cursor("user/a", "").Offset, "the reader without a name")
}
