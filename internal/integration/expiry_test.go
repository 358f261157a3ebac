package integration_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func identityUntil(user string, d time.Duration) realtime.Identity {
	return realtime.Identity{UserID: user, ExpiresAt: time.Now().Add(d)}
}

func TestExpiry(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(identityUntil("alice", time.Hour)), b.open("bob")
		time.Sleep(time.Hour + 9*time.Second)
		require.Nil(t, alice.ended(), "the grace")
		require.Equal(t, 2, b.news(realtime.ToAll(), "x").Queued)
		time.Sleep(2 * time.Second)
		alice.requireEnd(realtime.CloseExpired)
		require.Equal(t, 1, b.news(realtime.ToAll(), "x").Queued)
		require.EqualValues(t, 1, b.Stats().Ended.Expired)
		require.Nil(t, bob.ended())
	})
}

func TestExpiryWithoutGrace(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Expiry: -1}}, func(t *testing.T, b *bed) {
		alice := b.openV1(identityUntil("alice", time.Minute))
		time.Sleep(time.Minute + 100*time.Millisecond)
		alice.requireEnd(realtime.CloseExpired)
	})
}

func TestExpiredIdentityIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newManager(t, realtime.Options{Authenticate: func(*http.Request) (realtime.Identity, error) {
			return identityUntil("alice", 0), nil
		}})
		code, message, _ := refusedHandshake(t, rt, func(*http.Request) {})
		require.Equal(t, http.StatusUnauthorized, code)
		require.Equal(t, "not authenticated", message)
		transport, _ := realtime.Pipe()
		_, err := rt.Register(t.Context(), transport, identityUntil("alice", 0))
		require.ErrorIs(t, err, realtime.ErrUnauthenticated)
	})
}

func TestRevalidate(t *testing.T) {
	var asked atomic.Int32
	o := realtime.Options{Revalidate: func(_ context.Context, c *realtime.Conn, token string) (realtime.Identity, error) {
		if asked.Add(1) >= 3 || token != "" {
			return realtime.Identity{}, errors.New("logged out")
		}
		return identityUntil(c.UserID(), time.Hour), nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(identityUntil("alice", time.Hour))
		time.Sleep(3*time.Hour - time.Minute)
		require.EqualValues(t, 2, asked.Load())
		require.Nil(t, alice.ended())
		alice.discard()
		time.Sleep(time.Minute + 200*time.Millisecond)
		require.Equal(t, []string{`{"message_type":"error","id":null,"content":{"code":"expired",` +
			`"message":"identity expired"}}`}, alice.raw(), "the client has the grace to refresh")
		time.Sleep(10 * time.Second)
		alice.requireEnd(realtime.CloseExpired)
	})
}

func TestRevalidateThatTakesTooLong(t *testing.T) {
	o := realtime.Options{Revalidate: func(ctx context.Context, _ *realtime.Conn, _ string) (realtime.Identity, error) {
		<-ctx.Done()
		return realtime.Identity{}, context.Cause(ctx)
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(identityUntil("alice", time.Hour))
		time.Sleep(time.Hour + 11*time.Second)
		alice.requireEnd(realtime.CloseExpired)
	})
}

func TestRefresh(t *testing.T) {
	o := realtime.Options{
		Revalidate: func(_ context.Context, c *realtime.Conn, token string) (realtime.Identity, error) {
			id := identityUntil(c.UserID(), time.Hour)
			switch id.Data = token; token {
			case "good", "fewer rooms":
				return id, nil
			case "of bob":
				id.UserID = "bob"
				return id, nil
			case "old":
				return identityUntil(c.UserID(), 0), nil
			}
			return realtime.Identity{}, errors.New("bad token")
		},
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if c.Identity().Data == "fewer rooms" && a.Room == "staff" {
				return realtime.ErrForbidden
			}
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(identityUntil("alice", time.Hour))
		alice.request(`{"type":"join","room":"staff"}`)
		alice.request(`{"type":"join","room":"lobby"}`)
		b.join("given", alice)
		time.Sleep(time.Hour + time.Second) // in the grace period
		alice.discard()
		refresh := func(token string) string {
			return alice.request(`{"type":"refresh","id":1,"token":"` + token + `"}`)[0]
		}
		for _, token := range []string{"bad", "of bob", "old"} {
			require.Contains(t, refresh(token), `"code":"forbidden"`)
		}
		require.Equal(t, `{"message_type":"reply","id":1}`, refresh("good"))
		require.Equal(t, []string{"staff", "lobby", "given"}, alice.conn.Rooms())
		time.Sleep(30 * time.Minute)
		require.Equal(t, `{"message_type":"left","room":"staff"}`, refresh("fewer rooms"))
		require.Equal(t, []string{"lobby", "given"}, alice.conn.Rooms(), "rooms from the application are kept")
		time.Sleep(time.Hour - time.Second)
		require.Nil(t, alice.ended())
		time.Sleep(12 * time.Second)
		alice.requireEnd(realtime.CloseExpired)
	})
}

func TestRenew(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		require.NoError(t, alice.conn.Renew(identityUntil("alice", time.Minute)))
		time.Sleep(30 * time.Second)
		require.NoError(t, alice.conn.Renew(realtime.Identity{UserID: "alice", Data: 7}))
		require.Equal(t, 7, alice.conn.Identity().Data)
		time.Sleep(time.Hour)
		require.Nil(t, alice.ended())
		require.ErrorIs(t, alice.conn.Renew(realtime.Identity{UserID: "bob"}), realtime.ErrForbidden)
		require.ErrorIs(t, alice.conn.Renew(identityUntil("alice", -time.Second)), realtime.ErrUnauthenticated)
		require.NoError(t, alice.conn.Renew(identityUntil("alice", time.Minute)))
		time.Sleep(time.Minute + 11*time.Second)
		alice.requireEnd(realtime.CloseExpired)
		require.ErrorIs(t, alice.conn.Renew(identityUntil("alice", time.Minute)), realtime.ErrClosed)
	})
}
