package share

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLedger checks which entries Pass removes.
func TestLedger(t *testing.T) {
	l := NewLedger[string](1)
	now := time.Now()
	past, future := now.Add(-1).UnixNano(), now.Add(time.Hour).UnixNano()
	for _, e := range []struct {
		sender  string
		expires int64
	}{{"a", past}, {"b", past}, {"b", future}, {"a", past}, {"a", 0}} {
		l.Add(e.sender, 100, e.expires)
	}
	require.EqualValues(t, 6, l.Next())
	l.Pass(0, now)
	require.Equal(t, Usage{3, 300}, l.all)
	require.Equal(t, Usage{2, 200}, l.accounts["a"].Usage)
	require.Equal(t, Usage{1, 100}, l.accounts["b"].Usage)
	l.Pass(3, now)
	require.EqualValues(t, 5, l.first)
	require.Equal(t, Usage{1, 100}, l.all)
	l.Pass(5, now)
	require.Zero(t, l.Len())
	require.EqualValues(t, 6, l.Next())
	require.Zero(t, l.all)
	require.Empty(t, l.accounts)
}

func TestExpiry(t *testing.T) {
	require.Equal(t, int64(0), Expiry(1, 0, 0))
	require.Equal(t, int64(3), Expiry(1, 2, 5))
	require.Equal(t, int64(6), Expiry(1, 0, 5))
	require.Equal(t, int64(6), Expiry(1, 7, 5))
	require.Equal(t, int64(0), Expiry(5, 1<<63-1, 0), "an overflow means never")
}

// TestLeaves checks that a sender may use as much as is free, and that an empty stream has room for
// any message.
func TestLeaves(t *testing.T) {
	b := Bounds{Messages: 10, Bytes: 1000}
	for _, c := range []struct {
		own, all Usage
		size     int64
		want     bool
	}{
		{Usage{}, Usage{}, 5000, true},
		{Usage{4, 0}, Usage{4, 0}, 1, true},
		{Usage{5, 0}, Usage{5, 0}, 1, false},
		{Usage{0, 0}, Usage{9, 0}, 1, true},
		{Usage{0, 0}, Usage{10, 0}, 1, false},
		{Usage{1, 400}, Usage{1, 400}, 200, true},
		{Usage{1, 400}, Usage{1, 400}, 201, false},
	} {
		require.Equal(t, c.want, b.HasRoom(c.own, c.all, c.size), "%+v", c)
	}
	require.True(t, Bounds{Messages: 10}.HasRoom(Usage{1, 1 << 40}, Usage{1, 1 << 40}, 1<<40))
}
