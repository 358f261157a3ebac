package admission

import (
	"net/netip"
	"strconv"
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
			r.Deny(Subject{User: string(rune('a' + i))}, time.Second, 0)
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(r.denied.all), 500)
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

var everywhere = func() (all []int) {
	for i := range Buckets {
		all = append(all, i)
	}
	return all
}()

// Processes that tell each other what they know have the same denials, and the same digest: the newest
// one of each subject.
func TestMergedDenials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b Revocations
		a.Share(time.Hour)
		b.Share(time.Hour)
		merge := func() {
			t.Helper()
			for _, d := range a.Denied(everywhere) {
				b.Merge(d)
			}
			for _, d := range b.Denied(everywhere) {
				a.Merge(d)
			}
			require.Equal(t, a.Digests(), b.Digests())
		}
		denied := func(r *Revocations, user string) bool {
			return r.Check(0, Subject{User: user}) != nil
		}
		require.Zero(t, a.Digests())
		mallory, bob, carol := Subject{User: "mallory"}, Subject{User: "bob"}, Subject{User: "carol"}
		require.EqualValues(t, 7, a.Deny(mallory, time.Minute, 7))
		require.NotEqual(t, a.Digests(), b.Digests())
		require.NotZero(t, a.Digests())
		merge()
		require.True(t, denied(&b, "mallory"))

		a.Deny(mallory, 0, 8) // b does not know
		require.False(t, denied(&a, "mallory"))
		merge()
		require.False(t, denied(&b, "mallory"), "the older denial does not come back")
		require.EqualValues(t, 9, b.Deny(mallory, time.Minute, 3), "it is newer whatever the clock says")
		merge()
		require.True(t, denied(&a, "mallory"))

		a.Deny(bob, 0, 20) // not known here, but there
		b.Deny(bob, time.Minute, 19)
		b.Deny(carol, time.Hour, 20)
		merge()
		require.False(t, denied(&b, "bob"))
		require.True(t, denied(&a, "carol"))
		require.False(t, a.Merge(Denied{Subject: carol, Left: time.Hour, Stamp: 20}), "again")
		require.False(t, a.Merge(Denied{Subject: carol, Left: -1, Stamp: 30}), "too late")

		dave := Subject{User: "dave"}
		b.Deny(dave, time.Hour, 30)
		a.Deny(dave, time.Second, 31) // a does not know that it is a shorter one
		time.Sleep(2 * time.Second)
		require.False(t, denied(&a, "dave"))
		merge()
		require.False(t, denied(&b, "dave"), "the later one counts, also when its time has passed")
		require.False(t, denied(&a, "dave"))

		time.Sleep(time.Minute - 3*time.Second)
		require.True(t, denied(&a, "mallory"))
		time.Sleep(time.Second)
		require.False(t, denied(&a, "mallory"))
		require.True(t, denied(&a, "carol"))
		time.Sleep(time.Hour)
		require.Zero(t, a.Digests())
		require.Empty(t, a.Denied(everywhere))
		require.Empty(t, a.denied.all)
		require.Empty(t, a.denied.ends)
	})
}

// Without other processes nothing is remembered of a denial that has ended.
func TestDenialsOfOneProcess(t *testing.T) {
	var r Revocations
	r.Deny(Subject{User: "alice"}, 0, 0)
	r.Deny(Subject{User: "bob"}, time.Hour, 0)
	r.Deny(Subject{User: "bob"}, 0, 0)
	require.NoError(t, r.Check(0, Subject{User: "bob"}))
	require.Empty(t, r.denied.all)
	require.Zero(t, r.Digests())
}

// Denials are in many buckets, and each is told with its bucket.
func TestBucketsOfDenials(t *testing.T) {
	var r Revocations
	for i := range 1000 {
		r.Deny(Subject{User: strconv.Itoa(i), Room: "room"}, time.Hour, 0)
	}
	n := 0
	for i := range Buckets {
		some := len(r.Denied([]int{i}))
		require.InDelta(t, 1000/Buckets, some, 20)
		require.NotZero(t, r.Digests()[i])
		n += some
	}
	require.Equal(t, 1000, n)
	require.Empty(t, r.Denied([]int{-1, Buckets}))
}
