package admission

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVisitorsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewVisitors(VisitorLimits{Rate: -1})
		stays := Place(netip.MustParseAddr("203.0.113.7"))
		require.True(t, v.enter(stays))
		flood := func(net byte) {
			for i := range 4000 {
				v.Knock(Place(netip.AddrFrom16([16]byte{0x20, 1, net, byte(i >> 8), byte(i)})))
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
		var d Denials
		for i := range 100_000 {
			d.Deny(Ban{User: string(rune('a' + i))}, time.Second)
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(d.until), 500)
		d.Throw(Ban{User: "nobody decides anything"})
		require.Empty(t, d.thrown)
		began := d.Begin()
		for range 3 * maxThrown {
			d.Throw(Ban{User: "mallory"})
		}
		require.LessOrEqual(t, len(d.thrown), maxThrown)
		require.ErrorIs(t, d.Check(began, Ban{User: "alice"}), ErrDenied, "who knows, after so many")
		late := d.Begin()
		require.NoError(t, d.Check(late, Ban{User: "mallory"}), "it is decided after all that")
		d.End()
		d.End()
		require.Empty(t, d.thrown)
		require.NoError(t, d.Check(d.Begin(), Ban{User: "mallory"}))
	})
}
