package redis_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// keys returns the keys of one kind.
func (s *server) keys(kind string) []string {
	s.t.Helper()
	keys, err := s.do("KEYS", "*:"+kind+":*").AsStrSlice()
	require.NoError(s.t, err)
	return keys
}

func (s *server) number(words ...string) int64 {
	s.t.Helper()
	n, err := s.do(words...).AsInt64()
	require.NoError(s.t, err)
	return n
}

// What is discarded is read no more at once, and removed little by little.
func TestDiscardedIsRemoved(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	for i := range 1000 {
		a.publish(note("room/a", i))
	}
	for i := range 6 {
		p := note("room/a", 1000+i)
		p.Keep.Messages = 3
		at := a.publish(p).Position
		page := a.page("room/a", broker.Query{})
		require.Len(t, page.Publications, 3)
		require.Equal(t, at.Offset-3, page.Floor)
	}
	for _, kind := range []string{"l", "m"} {
		require.EqualValues(t, 3, s.number("LLEN", s.keys(kind)[0]))
	}
	p := note("room/a", 0)
	p.Keep.Messages = 0
	a.publish(p)
	require.Empty(t, s.keys("l"))
	require.Empty(t, s.keys("m"))
}

// All keys of a stream end some time after its last publication. A stream without a bound of age
// ends only if nothing is kept.
func TestKeysEnd(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	p := note("user/a", 1)
	p.Keep.Age, p.Message.ID = time.Hour, "1"
	a.publish(p)
	_, err := a.Cursor(t.Context(), "user/a", "r")
	require.NoError(t, err)
	ttl := func(all []string) (least, most int64) {
		least, most = 1<<60, -1
		for _, key := range all {
			n := s.number("TTL", key)
			least, most = min(least, n), max(most, n)
		}
		return least, most
	}
	every := func() (all []string) {
		for _, kind := range []string{"h", "l", "m", "i", "o", "c", "u"} {
			all = append(all, s.keys(kind)...)
		}
		return all
	}
	require.Len(t, every(), 7)
	least, most := ttl(every())
	require.Greater(t, least, int64(7*24*3600-60))
	require.Less(t, most, int64(8*24*3600))

	p.Keep.Age, p.Message.ID = 0, "2"
	at := a.publish(p).Position
	_, most = ttl(every())
	require.EqualValues(t, -1, most)
	require.NoError(t, a.Ack(t.Context(), "user/a", "r", at))
	least, _ = ttl(every())
	require.Greater(t, least, int64(7*24*3600-60))
}

// A stream that was forgotten begins above its old offsets, and its old positions have a gap.
func TestForgottenStream(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	a.subscribe("room/a")
	old := a.publish(note("room/a", 1)).Position
	top := a.publish(note("room/a", 2)).Position
	eventually(t, func() bool { return len(a.delivered("room/a")) == 2 })
	s.do("DEL", s.keys("h")[0]) // as if its time were over
	require.Zero(t, a.page("room/a", broker.Query{}).Top.Offset)
	next := b.publish(note("room/a", 3)).Position
	require.Greater(t, next.Offset, top.Offset)
	page := a.page("room/a", broker.Query{After: old.Offset})
	require.Equal(t, []string{"3"}, contents(page))
	require.Equal(t, broker.ReasonExpired, page.GapAfter(old))
	page = a.page("room/a", broker.Query{})
	require.Empty(t, page.GapAfter(broker.Position{Epoch: next.Epoch}), "a new receiver misses nothing")
	require.Empty(t, page.GapAfter(next))
	eventually(t, func() bool { return len(a.losses()) == 1 })
}

// Offsets stay above the old ones even if the clock of the server is set back.
func TestClockGoesBack(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	at := a.publish(note("room/a", 1)).Position
	high := at.Offset + uint64(time.Hour.Microseconds()) // the clock was there
	bucket := strings.TrimSuffix(s.keys("h")[0], "h:room/a")
	s.do("HSET", bucket+"g", "high", fmt.Sprint(high))
	s.do("DEL", bucket+"h:room/a")
	require.Greater(t, a.publish(note("room/a", 2)).Position.Offset, high)
}

// A record that this version cannot read is reported as a gap.
func TestUnreadableRecord(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	var at []broker.Position
	for i := range 3 {
		at = append(at, a.publish(note("room/a", i)).Position)
	}
	key := s.keys("l")[0]
	for _, i := range []string{"0", "1"} {
		s.do("LSET", key, i, "\x02 from the future")
	}
	page := a.page("room/a", broker.Query{})
	require.Equal(t, []string{"2"}, contents(page))
	require.Equal(t, at[2], page.Top)
	require.Equal(t, at[1].Offset, page.Floor)
	require.Equal(t, broker.ReasonEpoch, page.Why)
	back := a.page("room/a", broker.Query{Backwards: true})
	require.Equal(t, page, back)
	a.publish(note("room/a", 4))
}

// Something unknown in a channel does no harm, and is logged once for a while.
func TestUnreadableEnvelope(t *testing.T) {
	s := start(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	o := s.options()
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	a, b := join(t, o), join(t, s.options())
	a.subscribe("room/a")
	channels, err := s.do("PUBSUB", "SHARDCHANNELS", "*room/a").AsStrSlice()
	require.NoError(t, err)
	require.Len(t, channels, 1)
	for _, text := range []string{"", "\x01", "\x01pxx", "\x02", "hello"} {
		s.do("SPUBLISH", channels[0], text)
	}
	a.publish(note("room/a", 1))
	require.Equal(t, []string{"1"}, a.delivered("room/a"))
	b.publish(note("room/a", 2)) // arrives after all that
	eventually(t, func() bool { return len(a.delivered("room/a")) == 2 })
	require.Empty(t, a.losses())
	lines, err := os.ReadFile(log.Name())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(lines), "cannot be read"), "%s", lines)
}

// Many expired publications in a row are passed over in several steps.
func TestReadPassesManyExpired(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	first := a.publish(note("room/a", 1)).Position
	for range 50 {
		var parts []broker.Publication
		for range 50 {
			p := note("room/a", 0)
			p.Message.TTL = time.Millisecond
			parts = append(parts, p)
		}
		for _, p := range parts {
			a.publish(p)
		}
	}
	a.publish(note("room/a", 2))
	eventually(t, func() bool { return len(a.page("room/a", broker.Query{}).Publications) == 2 })
	for _, back := range []bool{false, true} {
		page := a.page("room/a", broker.Query{Backwards: back, Limit: 2})
		require.Len(t, page.Publications, 2)
		require.False(t, page.More)
		page = a.page("room/a", broker.Query{Backwards: back, Limit: 1})
		require.True(t, page.More)
		require.Zero(t, page.Floor)
	}
	require.Equal(t, []string{"1"}, contents(a.page("room/a", broker.Query{Before: first.Offset + 2000})))
}
