package admission

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAddressesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewAddresses(Limits{Rate: -1})
		stays := AddrKey(netip.MustParseAddr("203.0.113.7"))
		require.True(t, v.add(stays))
		flood := func(net byte) {
			for i := range 4000 {
				v.Attempt(AddrKey(netip.AddrFrom16([16]byte{0x20, 1, net, byte(i >> 8), byte(i)})))
			}
		}
		flood(1)
		require.Len(t, v.known, 4001, "each may come again at once")
		for i := range byte(10) {
			time.Sleep(time.Minute)
			flood(2 + i)
			require.LessOrEqual(t, len(v.known), 8200)
		}
		require.Equal(t, 1, v.known[stays].conns)
		v.remove(stays)
		require.Zero(t, v.known[stays].conns)
	})
}

func TestRevocationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Revocations
		for i := range 100_000 {
			r.Deny(Subject{User: string(rune('a' + i))}, time.Second)
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(r.denied), 500)
		r.Revoke(Subject{User: "nobody decides anything"})
		require.Empty(t, r.revoked)
		began := r.Begin()
		for range 3 * maxRevoked {
			r.Revoke(Subject{User: "mallory"})
		}
		require.LessOrEqual(t, len(r.revoked), maxRevoked)
		require.ErrorIs(t, r.Check(began, Subject{User: "alice"}), ErrDenied, "who knows, after so many")
		late := r.Begin()
		require.NoError(t, r.Check(late, Subject{User: "mallory"}), "it is decided after all that")
		r.End()
		r.End()
		require.Empty(t, r.revoked)
		require.NoError(t, r.Check(r.Begin(), Subject{User: "mallory"}))
	})
}

// The end of a decision makes no other decision uncertain that is still under way.
func TestRevocationsAreKeptForDecisionsUnderWay(t *testing.T) {
	var r Revocations
	alice := r.Begin()
	_ = r.Begin()
	r.Revoke(Subject{User: "mallory"})
	r.End()
	require.NoError(t, r.Check(alice, Subject{User: "alice"}))
	require.Equal(t, &DeniedError{}, r.Find(alice, Subject{User: "mallory"}))
	r.End()
	require.Empty(t, r.revoked)
}
