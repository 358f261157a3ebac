package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestDisconnectDuringAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := make(chan struct{}), make(chan struct{})
		rt := newManager(t, realtime.Options{
			Authenticate: func(*http.Request) (realtime.Identity, error) {
				asked <- struct{}{}
				<-answer
				return realtime.Identity{UserID: "mallory"}, nil
			},
		})
		attempts := func() chan int {
			code := make(chan int, 1)
			go func() {
				c, _, _ := refusedHandshake(t, rt, func(*http.Request) {})
				code <- c
			}()
			<-asked
			return code
		}
		before := attempts()
		_, err := rt.User("mallory").Disconnect(t.Context(), realtime.ClosePolicy, "spam")
		require.NoError(t, err)
		after := attempts()
		close(answer)
		require.Equal(t, http.StatusForbidden, <-before)
		require.Equal(t, passed, <-after, "the check began after that")
		require.EqualValues(t, 1, rt.Stats().RefusedAuth)
	})
}

func TestDisconnectDuringOnConnect(t *testing.T) {
	connecting := make(chan struct{})
	o := announced()
	o.OnConnect = func(_ context.Context, c *realtime.Conn) error {
		if c.UserID() == "mallory" {
			<-connecting
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		connecting = make(chan struct{})
		b := newBed(t, o)
		alice := b.open("alice")
		var mallory *client
		go func() { mallory = b.dial("mallory") }()
		synctest.Wait()
		n, err := b.User("mallory").Disconnect(t.Context(), realtime.ClosePolicy, "spam")
		require.NoError(t, err)
		require.Zero(t, n)
		close(connecting)
		synctest.Wait()
		require.Error(t, mallory.err)
		mallory.requireEnd(realtime.CloseRefused)
		require.Equal(t, []string{"welcome"}, alice.got())
		require.NoError(t, b.Close())
		requireConserved(t, b.Stats())
	})
}

// Disconnect ends connections within a second, even if messages are queued for a client that does
// not read.
func TestDisconnectTakesAtMostASecond(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory := b.stalled("mallory")
		for range 900 {
			b.news(realtime.ToUser("mallory"), strings.Repeat("x", 1000))
		}
		n, err := b.User("mallory").Disconnect(t.Context(), realtime.ClosePolicy, "spam")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Zero(t, b.news(realtime.ToUser("mallory"), "more").Queued, "from now on")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, b.Stats().Conns)
		mallory.unstall()
		require.Less(t, len(mallory.raw()), 100, "the frames that the peer had already received")
		require.Positive(t, b.Stats().Lost)
	})
}

func TestDenyUser(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory, other := b.open("mallory"), b.open("mallory")
		n, err := b.User("mallory").Deny(t.Context(), time.Minute)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		mallory.requireEnd(realtime.CloseRefused)
		other.requireEnd(realtime.CloseRefused)
		require.ErrorIs(t, b.dial("mallory").err, realtime.ErrDenied)
		require.NoError(t, b.dial("bob").err)
		time.Sleep(time.Minute)
		require.NoError(t, b.dial("mallory").err)

		_, err = b.User("mallory").Deny(t.Context(), time.Hour)
		require.NoError(t, err)
		n, err = b.User("mallory").Deny(t.Context(), 0)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, b.dial("mallory").err)
	})
}

func TestDenialHasRetryAfter(t *testing.T) {
	rt := newManager(t, realtime.Options{Authenticate: realtime.InsecureQueryUser})
	_, err := rt.User("mallory").Deny(t.Context(), time.Hour)
	require.NoError(t, err)
	code, message, header := refusedHandshake(t, rt, func(r *http.Request) { r.URL.RawQuery = "user_id=mallory" })
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "denied", message)
	require.Equal(t, "3600", header.Get("Retry-After"))
}

func TestRemoveFromRoom(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		alice, tab1, tab2, anon := b.open("alice"), b.open("mallory"), b.open("mallory"), b.open("")
		b.join("lobby", alice, tab1, tab2, anon)
		b.join("other", tab1)
		alice.discard()
		n, err := b.Room("lobby").Remove(t.Context(), "mallory")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, []string{"mallory out lobby"}, alice.got())
		require.Equal(t, []string{"other"}, tab1.conn.Rooms())
		require.Equal(t, 2, b.news(realtime.ToRoom("lobby"), "x").Queued)
		b.join("lobby", tab1) // the application may

		n, err = b.Room("lobby").Remove(t.Context(), "nobody")
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = b.Room("no such room").Remove(t.Context(), "mallory")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestDenyRoom(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory := b.open("mallory")
		h := b.API(realtime.InsecureAllowRequests)
		join := func(room string) int {
			code, _, _ := callREST(h, restRequest{method: "POST", path: "/connections/" + mallory.conn.ID() + "/join",
				body: `{"room_id":"` + room + `"}`})
			return code
		}
		require.Equal(t, http.StatusOK, join("home"))
		b.join("lobby", mallory)
		n, err := b.Room("lobby").Deny(t.Context(), "mallory", time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = b.Join(t.Context(), mallory.conn.ID(), "lobby")
		require.ErrorIs(t, err, realtime.ErrDenied)
		require.Equal(t, http.StatusForbidden, join("lobby"))
		require.Equal(t, []string{"home"}, mallory.conn.Rooms(), "rooms are kept")
		require.Equal(t, 1, b.Stats().Rooms, "the room is removed")
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusOK, join("lobby"))
	})
}

// A revoked user stays out, also if an admission was in progress: it starts before the revocation
// and ends after it, in random schedules of virtual time.
func TestRevocationDuringAdmission(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pause := func() time.Duration { return time.Duration(rng.IntN(20)) * time.Millisecond }
		schedule := make([]time.Duration, 200)
		for i := range schedule {
			schedule[i] = pause()
		}
		synctest.Test(t, func(t *testing.T) { requireOutIsOut(t, schedule) })
	}
}

func requireOutIsOut(t *testing.T, schedule []time.Duration) {
	var at atomic.Int64
	pause := func() { time.Sleep(schedule[int(at.Add(1))%len(schedule)]) }
	var banned, kicked atomic.Bool
	b := newBed(t, realtime.Options{})
	rt := newManager(t, realtime.Options{Authenticate: func(*http.Request) (realtime.Identity, error) {
		if banned.Load() {
			return realtime.Identity{}, realtime.ErrForbidden
		}
		pause()
		return realtime.Identity{UserID: "mallory"}, nil
	}})
	stop := make(chan struct{})
	mallory := b.open("mallory")
	h := b.API(func(*http.Request, realtime.Action) error {
		if kicked.Load() {
			return realtime.ErrForbidden
		}
		pause()
		return nil
	})
	again := func(f func()) {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
					pause()
				}
			}
		}()
	}
	for range 3 {
		again(func() {
			r := httptest.NewRequest(http.MethodPost, "/connections/"+mallory.conn.ID()+"/join",
				strings.NewReader(`{"room_id":"lobby"}`))
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
		again(func() {
			rt.ServeHTTP(hijackable{httptest.NewRecorder(), newScriptedConn("", 0), ""}, upgradeRequest(false))
		})
	}
	for range 10 {
		pause()
		kicked.Store(true)
		_, err := b.Room("lobby").Remove(t.Context(), "mallory")
		require.NoError(t, err)
		banned.Store(true)
		_, err = rt.User("mallory").Disconnect(t.Context(), realtime.ClosePolicy, "")
		require.NoError(t, err)
		for range 5 {
			members, err := b.Room("lobby").Users(t.Context())
			require.NoError(t, err)
			require.Empty(t, members)
			open := slices.Collect(rt.User("mallory").LocalConns())
			open = slices.DeleteFunc(open, func(c *realtime.Conn) bool { return c.Context().Err() != nil })
			require.Empty(t, open)
			pause()
		}
		kicked.Store(false)
		banned.Store(false)
	}
	close(stop)
	time.Sleep(time.Minute)
}

func TestUserFullReplace(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{ConnsPerUser: 2}, UserFull: realtime.UserFullReplace}
	bubble(t, o, func(t *testing.T, b *bed) {
		first := b.open("alice")
		time.Sleep(time.Second)
		second := b.open("alice")
		time.Sleep(time.Second)
		bob := b.open("bob")
		third := b.open("alice")
		first.requireEnd(realtime.CloseReplaced)
		require.False(t, realtime.CloseReplaced.ComeBack(), "otherwise two tabs replace each other for ever")
		require.Nil(t, second.ended())
		require.Nil(t, third.ended())
		require.Nil(t, bob.ended())
		require.EqualValues(t, 1, b.Stats().Ended.Replaced)
		time.Sleep(time.Second)
		b.open("alice")
		second.requireEnd(realtime.CloseReplaced)
		n, err := b.User("alice").Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, n)
	})
}

// A connection that is refused does not replace another one.
func TestUserFullReplaceOnlyByAnAdmittedConnection(t *testing.T) {
	o := realtime.Options{
		Limits: realtime.Limits{ConnsPerUser: 1}, UserFull: realtime.UserFullReplace,
		Authenticate: realtime.InsecureQueryUser,
	}
	refuse := false
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		if refuse {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		refuse = false
		alice := b.open("alice")
		code, _, _ := refusedHandshake(t, b.Manager, func(r *http.Request) { r.URL.RawQuery = "user_id=alice" })
		require.Equal(t, passed, code)
		refuse = true
		require.Error(t, b.dial("alice").err)
		require.Nil(t, alice.ended())
	})
}

// So many users are revoked during an admission that the Manager does not remember whether this one
// was among them. The client is told to try again, and not to stay away.
func TestRetryAfterManyRevocations(t *testing.T) {
	var rt *realtime.Manager
	disconnectMany := func() {
		for i := range 10_001 {
			_, err := rt.User(fmt.Sprint("mallory", i)).Disconnect(t.Context(), realtime.ClosePolicy, "")
			require.NoError(t, err)
		}
	}
	rt = newManager(t, realtime.Options{Authenticate: func(*http.Request) (realtime.Identity, error) {
		disconnectMany()
		return realtime.Identity{UserID: "alice"}, nil
	}})
	code, _, header := refusedHandshake(t, rt, func(*http.Request) {})
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "1", header.Get("Retry-After"))

	o := realtime.Options{OnConnect: func(context.Context, *realtime.Conn) error {
		disconnectMany()
		return nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		rt = b.Manager
		alice := b.dial("alice")
		require.ErrorIs(t, alice.err, realtime.ErrClosed)
		alice.requireEnd(realtime.CloseInternal)
		require.True(t, realtime.CloseInternal.ComeBack())
	})
}
