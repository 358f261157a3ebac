package redis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func sample(t testing.TB) (record string) {
	p := broker.Publication{
		Stream: "room/a", Target: broker.Target{Rooms: []string{"a"}},
		Message: broker.Message{Type: "chat", Binary: []byte{0, 1, '\n'}, TTL: time.Minute},
	}
	r, err := encodeRecord(&p, 7, 8)
	require.NoError(t, err)
	return string(r)
}

func TestEnvelope(t *testing.T) {
	e, err := decode("\x01pgen 12 11 1700000000000000\n" + sample(t))
	require.NoError(t, err)
	require.Equal(t, place{12, 11, 1700000000000000}, e.place)
	require.Equal(t, "gen", e.generation)
	require.EqualValues(t, 7, e.node)
	require.EqualValues(t, 8, e.record.call)
	p, err := e.record.publication("room/a", e.generation, e.place)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 1, '\n'}, p.Message.Binary)
	require.Equal(t, broker.Position{Epoch: epoch("gen", "room/a"), Offset: 12}, p.Position)
	require.Equal(t, "room/a", p.Stream)

	e, err = decode(string(encodeSent(9, []byte("hi"))))
	require.NoError(t, err)
	require.EqualValues(t, 9, e.node)
	require.Equal(t, "hi", e.data)

	for text, want := range map[string]error{
		"": errEnvelope, "\x01": errEnvelope, "\x00p": errEnvelope, "\x02p": errNewer, "\x01x": errNewer,
		"\x01sshort": errEnvelope, "\x01pgen 1 0\n": errEnvelope, "\x01pgen 1 1 5\n": errEnvelope,
		"\x01p 1 0 5\n" + sample(t): errEnvelope, "\x01pg 1 0 -5\n" + sample(t): errEnvelope,
		"\x01pg 1 0 5\n": errEnvelope, "\x01pg 1 0 5\n\x02": errNewer,
		"\x01pg 99999999999999999 0 5\n" + sample(t): errEnvelope,
	} {
		_, err := decode(text)
		require.ErrorIs(t, err, want, "%q", text)
	}
}

// What arrives from the engine is not trusted.
func FuzzDecode(f *testing.F) {
	f.Add("\x01pgen 12 11 1700000000000000\n" + sample(f))
	f.Add(string(encodeSent(9, []byte("hi"))))
	f.Add("\x02?")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := decode(text)
		if err != nil || e.kind == sent {
			return
		}
		p, err := e.record.publication("room/a", e.generation, e.place)
		if err != nil {
			return
		}
		require.Equal(t, "room/a", p.Stream)
		require.Equal(t, e.place.offset, p.Position.Offset)
		require.Less(t, p.Prev, p.Position.Offset)
		require.Nil(t, p.Origin)
		require.False(t, p.Shared)
		again, err := encodeRecord(&p, e.node, e.record.call)
		if err != nil { // a time that JSON cannot represent
			return
		}
		k, err := decodeRecord(string(again))
		require.NoError(t, err)
		require.Equal(t, e.record.call, k.call)
	})
}

func TestEpochsAreOfStreams(t *testing.T) {
	e := epoch("gen", "room/a")
	g, ok := generationOf(e, "room/a")
	require.True(t, ok)
	require.Equal(t, "gen", g)
	for _, other := range []string{"", "gen", "gen.", e + "0", epoch("gen", "room/b")} {
		_, ok := generationOf(other, "room/a")
		require.False(t, ok, other)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Buckets: -1}, {Buckets: 1025}, {Timeout: -1}, {ForgetAfter: -1}, {Cluster: true, Sentinel: "m"},
	} {
		_, err := New(&o)
		require.Error(t, err)
	}
	o, err := (*Options)(nil).resolved()
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:6379"}, o.Addrs)
	require.Equal(t, 16, o.Buckets)
}
