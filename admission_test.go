package realtime

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVisitorsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitors(visitorLimits{rate: -1})
		stays := place(netip.MustParseAddr("203.0.113.7"))
		require.True(t, v.enter(stays))
		flood := func(net byte) {
			for i := range 4000 {
				v.knock(place(netip.AddrFrom16([16]byte{0x20, 1, net, byte(i >> 8), byte(i)})))
			}
		}
		flood(1)
		require.Len(t, v.seen, 4001, "each may come again at once")
		for i := range byte(10) {
			time.Sleep(time.Minute)
			flood(2 + i)
			require.LessOrEqual(t, len(v.seen), 8200)
		}
		require.Equal(t, 1, v.seen[stays].conns)
		v.leave(stays)
		require.Zero(t, v.seen[stays].conns)
	})
}

func TestDenialsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d denials
		for i := range 100_000 {
			d.deny(ban{user: string(rune('a' + i))}, time.Second)
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(d.until), 500)
		d.throw(ban{user: "nobody decides anything"})
		require.Empty(t, d.thrown)
		began := d.begin()
		for range 3 * maxThrown {
			d.throw(ban{user: "mallory"})
		}
		require.LessOrEqual(t, len(d.thrown), maxThrown)
		require.ErrorIs(t, d.check(began, ban{user: "alice"}), ErrDenied, "who knows, after so many")
		late := d.begin()
		require.NoError(t, d.check(late, ban{user: "mallory"}), "it is decided after all that")
		d.end()
		d.end()
		require.Empty(t, d.thrown)
		require.NoError(t, d.check(d.begin(), ban{user: "mallory"}))
	})
}
