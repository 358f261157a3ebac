package brokertest

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func contentRules() []rule {
	return []rule{
		{"a publication is delivered and read as it was sent", wholeMessage},
		{"exceptions are kept", excepts},
		{"binary content is not changed", binaryContent},
		{"nil and empty binary content are different", emptyBinary},
		{"content can be large", largeContent},
		{"Publish does not change what a publication refers to", notChanged},
		{"publications that were read do not change", readIsOwn},
	}
}

// through publishes p and returns it as delivered and as read.
func (s *stage) through(p broker.Publication) (delivered, read broker.Publication) {
	s.t.Helper()
	s.subscribe(p.Stream)
	at := s.publish(p).Position
	got := s.delivered(p.Stream)
	page := s.read(p.Stream, broker.Query{After: at.Offset - 1, Bytes: 64 << 20})
	require.Len(s.t, page.Publications, 1)
	s.unsubscribe(p.Stream)
	return got[len(got)-1], page.Publications[0]
}

func wholeMessage(s *stage) {
	p := broker.Publication{
		Stream: "room/a", Keep: broker.Retention{Messages: 10, Age: time.Hour, Bytes: 1 << 20},
		Target: broker.Target{
			Rooms: []string{"lobby", "attic"}, Users: []string{"bob", "eve"}, Conns: []string{"c1"},
		},
		Message: broker.Message{
			Type: "order.placed", Sender: "ålice 🙂", Conn: "conn_1", ID: "id-1",
			TTL:     time.Hour,
			Time:    time.Unix(1_700_000_000, 123_456_789),
			Content: json.RawMessage(`{"a": [1, 2.50, "\u00e9", null]}`),
		},
	}
	delivered, read := s.through(p)
	for _, got := range []broker.Publication{delivered, read} {
		require.Equal(s.t, p.Target, got.Target)
		require.True(s.t, p.Message.Time.Equal(got.Message.Time))
		got.Message.Time = p.Message.Time
		require.Equal(s.t, p.Message, got.Message)
	}
}

func excepts(s *stage) {
	p := note("room/a", 1)
	p.Target = broker.Target{
		Rooms:       []string{"lobby"},
		ExceptConns: []string{"c1", "c2"}, ExceptUsers: []string{"eve", "ünlü"},
	}
	delivered, read := s.through(p)
	require.Equal(s.t, p.Target, delivered.Target)
	require.Equal(s.t, p.Target, read.Target)
}

// binary returns a publication whose content is not JSON.
func binary(content []byte) broker.Publication {
	p := note("room/a", 1)
	p.Message.Content, p.Message.Binary = nil, content
	return p
}

func binaryContent(s *stage) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, content := range [][]byte{every, {0}, {0xff, 0xfe}, []byte(`{"json":1}`)} {
		delivered, read := s.through(binary(content))
		require.Equal(s.t, content, delivered.Message.Binary)
		require.Equal(s.t, content, read.Message.Binary)
		require.Empty(s.t, read.Message.Content)
	}
}

func emptyBinary(s *stage) {
	_, read := s.through(binary([]byte{}))
	require.NotNil(s.t, read.Message.Binary)
	require.Empty(s.t, read.Message.Binary)
	_, read = s.through(binary(nil))
	require.Nil(s.t, read.Message.Binary)
	require.Empty(s.t, read.Message.Content)
	_, read = s.through(note("room/a", 7))
	require.Nil(s.t, read.Message.Binary)
	require.Equal(s.t, 7, number(s.t, read))
}

func largeContent(s *stage) {
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	delivered, read := s.through(binary(content))
	require.Equal(s.t, content, delivered.Message.Binary)
	require.Equal(s.t, content, read.Message.Binary)
}

func notChanged(s *stage) {
	p := identified("room/a", "alice", "1")
	p.Target = broker.Target{Rooms: []string{"lobby"}, ExceptConns: []string{"c1"}}
	p.Message.Content = append(make(json.RawMessage, 0, 100), `"hello"`...)
	before := string(p.Message.Content[:cap(p.Message.Content)])
	s.through(p)
	require.Equal(s.t, before, string(p.Message.Content[:cap(p.Message.Content)]))
	require.Equal(s.t, []string{"c1"}, p.Target.ExceptConns)
}

func readIsOwn(s *stage) {
	s.fill("room/a", 3)
	for i, p := range s.all("room/a") {
		require.Equal(s.t, strconv.Itoa(i+1), string(p.Message.Content))
	}
	kept := s.all("room/a")
	s.fill("room/b", 50)
	require.Equal(s.t, []int{1, 2, 3}, numbers(s.t, kept))
}
