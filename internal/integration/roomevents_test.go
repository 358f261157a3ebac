package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// eventLine returns an event in a short notation: "alice joined lobby, opened, user joined 1/1".
func eventLine(e realtime.RoomEvent) string {
	var line strings.Builder
	line.WriteString(fmt.Sprintf("%s %s %s", e.Conn.UserID(), e.Kind, e.Room))
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"opened", e.Opened}, {"user joined", e.UserJoined},
		{"user away", e.UserAway}, {"user back", e.UserBack},
		{"user left", e.UserLeft}, {"emptied", e.Emptied},
	} {
		if flag.set {
			line.WriteString(", " + flag.name)
		}
	}
	if e.Why != nil {
		line.WriteString(", " + e.Why.Cause.String())
	}
	return fmt.Sprintf("%s %d/%d", line.String(), e.Count.Users, e.Count.Conns)
}

// withEvents returns Options that write the room events into a diary.
func withEvents(d *diary) realtime.Options {
	return realtime.Options{OnRoom: func(_ context.Context, e realtime.RoomEvent) {
		d.write(eventLine(e))
	}}
}

func TestRoomEvents(t *testing.T) {
	var events diary
	bubble(t, withEvents(&events), func(t *testing.T, b *bed) {
		phone, laptop := b.open("alice"), b.open("alice")
		bob, nobody := b.open("bob"), b.open("")
		for _, c := range []*client{phone, laptop, bob, nobody} {
			b.join("lobby", c)
		}
		_, err := b.Join(t.Context(), phone.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{
			"alice joined lobby, opened, user joined 1/1",
			"alice joined lobby 1/2",
			"bob joined lobby, user joined 2/3",
			" joined lobby 2/4",
		}, events.read())
		_, err = b.Leave(t.Context(), laptop.conn.ID(), "lobby")
		require.NoError(t, err)
		_, err = b.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, bob.conn.Close(realtime.CloseNormal, ""))
		synctest.Wait()
		nobody.Drop()
		require.Equal(t, []string{
			"alice left lobby 2/3",
			"alice left lobby, user left 1/2",
			"bob left lobby, user left, server 0/1",
			" left lobby, emptied, lost 0/0",
		}, events.read())
	})
}

// A member whose connection is lost is away until its client resumes the session, or the time for
// that is over.
func TestRoomEventsOfSessions(t *testing.T) {
	var events diary
	var ends diary
	o := withEvents(&events)
	onRoom := o.OnRoom
	var first *realtime.Conn
	o.OnRoom = func(ctx context.Context, e realtime.RoomEvent) {
		onRoom(ctx, e)
		switch e.Kind {
		case realtime.MemberAway:
			grace := 15 * time.Second
			if e.Why.Cause == realtime.CauseReplaced {
				grace = 0
			}
			require.Equal(t, grace, e.Why.Grace)
		case realtime.MemberBack:
			require.True(t, e.Was == first && e.Conn.ID() != first.ID())
		case realtime.MemberLeft:
			require.True(t, e.Why == nil || e.Why.Grace == 0)
		}
	}
	o.OnDisconnect = func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
		ends.write(fmt.Sprint(c.Rooms(), " ", why.Cause, " ", why.Grace))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		alice.request(`{"type":"join","id":1,"room":"lobby"}`)
		b.join("vip", alice)
		alice.request(`{"type":"leave","id":1,"room":"vip"}`)
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		alice.request(`{"type":"leave","id":1,"room":"hall"}`)
		events.read()
		alice.Drop()
		require.Equal(t, []string{"alice away lobby, user away, lost 1/1"}, events.read())
		require.Equal(t, []string{"[lobby] lost 15s"}, ends.read())
		require.Equal(t, []string{"lobby"}, alice.conn.Rooms())

		first = alice.conn
		again, w2 := b.session("alice")
		require.Equal(t, rooms("lobby"), again.resumes(w.Session))
		require.Equal(t, []string{"alice back lobby, user back 1/1"}, events.read())
		require.Equal(t, []string{"lobby"}, alice.conn.Rooms(), "at its end")

		// The server has not noticed yet that the connection is lost.
		first = again.conn
		third, _ := b.session("alice")
		require.Equal(t, rooms("lobby"), third.resumes(w2.Session))
		require.Equal(t, []string{"alice away lobby, user away, replaced 1/1", "alice back lobby, user back 1/1"}, events.read())
		require.Equal(t, []string{"[lobby] replaced 0s"}, ends.read())

		third.Drop()
		require.Equal(t, []string{"alice away lobby, user away, lost 1/1"}, events.read())
		time.Sleep(14 * time.Second)
		require.Empty(t, events.read())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"alice left lobby, user left, emptied, lost 0/0"}, events.read())
		require.Equal(t, []string{"[lobby] lost 15s"}, ends.read())

		clean, _ := b.session("carol")
		clean.request(`{"type":"join","id":1,"room":"lobby"}`)
		clean.Close(realtime.CloseNormal, "")
		require.Equal(t, []string{"[lobby] client 0s"}, ends.read(), "gone for good")
		require.Len(t, events.read(), 2)
	})
}

// A user with several connections in a room is away when none of them is open.
func TestRoomEventsOfAbsentUsers(t *testing.T) {
	var events diary
	bubble(t, withEvents(&events), func(t *testing.T, b *bed) {
		one, w := b.session("alice")
		two, _ := b.session("alice")
		b.join("lobby", one, two)
		events.read()
		one.Drop()
		require.Equal(t, []string{"alice away lobby, lost 1/2"}, events.read())
		_, err := b.Leave(t.Context(), two.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{"alice left lobby, user away 1/1"}, events.read())
		b.join("lobby", two)
		require.Equal(t, []string{"alice joined lobby, user back 1/2"}, events.read())
		two.Drop()
		require.Equal(t, []string{"alice away lobby, user away, lost 1/2"}, events.read())
		again, _ := b.session("alice")
		require.Equal(t, rooms("lobby"), again.resumes(w.Session))
		require.Equal(t, []string{"alice back lobby, user back 1/2"}, events.read())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"alice left lobby, lost 1/1"}, events.read())
	})
}

// A connection whose session is being resumed has no time left for that, however long the resume
// takes.
func TestGraceOfASessionThatIsBeingResumed(t *testing.T) {
	var ends diary
	var decide chan struct{} // not nil while a resume is authorised
	o := realtime.Options{
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			if decide != nil && a.Kind == realtime.ActionJoin {
				<-decide
			}
			return nil
		},
		OnRoom: func(_ context.Context, e realtime.RoomEvent) {
			if e.Kind == realtime.MemberAway {
				ends.write(fmt.Sprint("away ", e.Why.Cause, " ", e.Why.Grace))
			}
		},
		OnDisconnect: func(_ context.Context, _ *realtime.Conn, why *realtime.CloseError) {
			ends.write(fmt.Sprint("ended ", why.Cause, " ", why.Grace))
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		first, w := b.session("alice")
		first.request(`{"type":"join","id":1,"room":"lobby"}`)
		again, _ := b.session("alice")
		decide = make(chan struct{})
		require.Empty(t, again.request(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, w.Session)))
		require.ElementsMatch(t, []string{"away replaced 0s", "ended replaced 0s"}, ends.read())
		close(decide)
	})
}

// A member that reads too slowly is away. What ends a permission is reported as one event: a denial
// takes out a member without an end, and a disconnect one that is away.
func TestRoomEventsOfRevocations(t *testing.T) {
	var events diary
	o := withEvents(&events)
	o.Limits.QueueMessages = 20
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, far, realtime.Identity{UserID: "slow"})
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("lobby", alice)
		b.joinAll(slow, "lobby")
		events.read()
		b.fillQueue(realtime.ToUser("slow"), 50, 1)
		require.Equal(t, []string{"slow away lobby, user away, slow 2/2"}, events.read())
		_, err := b.User("slow").Disconnect(t.Context(), 4000, "")
		require.NoError(t, err)
		require.Equal(t, []string{"slow left lobby, user left, slow 1/1"}, events.read())

		_, err = b.Room("lobby").Deny(t.Context(), "alice", time.Minute)
		require.NoError(t, err)
		require.Equal(t, []string{"alice left lobby, user left, emptied 0/0"}, events.read())
		require.ErrorIs(t, second(alice.conn.Join(t.Context(), "lobby")), realtime.ErrDenied)
		alice.Drop()
		require.Empty(t, events.read(), "it was in no room")
		require.Zero(t, b.Stats().RoomEvents)
	})
}

// What a client sends after a join is handled after OnRoom has returned for the join, whichever way
// it joined. A slow OnRoom delays nobody else.
func TestRoomEventsComeBeforeMessages(t *testing.T) {
	var b *bed
	for name, join := range map[string]func(c *client, token string){
		"request": func(c *client, _ string) {
			require.Contains(c.t, c.request(`{"type":"join","id":1,"room":"slow"}`)[0], `"reply"`)
		},
		"application": func(c *client, _ string) { b.joinAll(c, "slow") },
		"resume":      func(c *client, token string) { require.Equal(c.t, rooms("slow"), c.resumes(token)) },
		"REST": func(c *client, _ string) {
			answer := c.restJoin(c.t.Context(), b, "slow")
			require.Equal(c.t, http.StatusOK, answer.Code, answer.Body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var order diary
			var release chan struct{}
			slow := false
			o := realtime.Options{
				OnRoom: func(_ context.Context, e realtime.RoomEvent) {
					if e.Room == "slow" && slow {
						<-release
					}
					order.write(string(e.Kind))
				},
				OnMessage: func(_ context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
					order.write(c.UserID() + " says " + in.Message.Type)
					return nil, nil
				},
			}
			bubble(t, o, func(t *testing.T, bed *bed) {
				b, release = bed, make(chan struct{})
				lost, w := b.session("alice")
				if name == "resume" {
					b.joinAll(lost, "slow")
					lost.Drop()
				}
				order.read()
				slow = true
				alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "bob"})
				alice.discard()
				join(alice, w.Session)
				hi := `{"type":"send","room":"slow","message_type":"hi"}`
				require.NoError(t, alice.Write([]byte(hi)))
				bob.request(`{"type":"join","id":1,"room":"quick"}`)
				require.NoError(t, bob.Write([]byte(hi)))
				require.Equal(t, []string{"joined", "bob says hi"}, order.read())
				time.Sleep(time.Hour)
				require.Empty(t, order.read())
				close(release)
				lines := order.read()
				require.Len(t, lines, 2)
				require.Equal(t, "alice says hi", lines[1])
			})
		})
	}
}

// restJoin joins a room by the REST interface.
func (c *client) restJoin(ctx context.Context, b *bed, room string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost,
		"http://example.com/connections/"+c.conn.ID()+"/join", strings.NewReader(`{"room_id":"`+room+`"}`))
	answer := httptest.NewRecorder()
	b.API(realtime.InsecureAllowRequests).ServeHTTP(answer, r)
	return answer
}

// A connection that is lost while it resumes a session is back, and away again.
func TestRoomEventsOfALossDuringResume(t *testing.T) {
	var events diary
	o := withEvents(&events)
	decide := func() {}
	o.Authorize = func(context.Context, *realtime.Conn, realtime.Action) error {
		decide()
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		lost, w := b.session("alice")
		lost.request(`{"type":"join","id":1,"room":"lobby"}`)
		lost.Drop()
		require.Len(t, events.read(), 2)
		again, _ := b.session("alice")
		decide = func() {
			again.Drop()
			time.Sleep(6 * time.Second) // until it is noticed
		}
		require.NoError(t, again.Write([]byte(`{"type":"resume","id":1,"session":"`+w.Session+`"}`)))
		time.Sleep(7 * time.Second)
		require.Equal(t, []string{"alice back lobby, user back 1/1", "alice away lobby, user away, lost 1/1"}, events.read())
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"alice left lobby, user left, emptied, lost 0/0"}, events.read())
	})
}

// Rooms that OnConnect joins are handled before the first message of the client.
func TestRoomEventsOfOnConnect(t *testing.T) {
	var b *bed
	var order diary
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			order.write("connect")
			_, err := b.Join(ctx, c.ID(), "lobby")
			if c.UserID() == "mallory" {
				return errors.New("no")
			}
			return err
		},
		OnRoom: func(_ context.Context, e realtime.RoomEvent) {
			time.Sleep(time.Second)
			order.write(string(e.Kind))
		},
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			order.write("message")
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, bed *bed) {
		b = bed
		alice := b.open("alice")
		alice.say("hi", "room")
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"connect", "joined", "message"}, order.read())
		require.Error(t, b.dial("mallory").err)
		require.Equal(t, []string{"connect"}, order.read(), "nobody was a member")
		require.Zero(t, b.Stats().Ended.Panic)
		alice.Close(realtime.CloseNormal, "")
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"left"}, order.read())
	})
}

// OnRoom may call the client that has joined, and everything else.
func TestRoomEventsMayCall(t *testing.T) {
	var b *bed
	var answers chan string
	o := realtime.Options{OnRoom: func(ctx context.Context, e realtime.RoomEvent) {
		if e.Kind != realtime.MemberJoined || e.Room != "lobby" {
			return
		}
		name, err := realtime.Call[string](ctx, e.Conn, "name", nil)
		require.NoError(t, err)
		_, err = b.Join(ctx, e.Conn.ID(), "second")
		require.NoError(t, err)
		_, err = b.Leave(ctx, e.Conn.ID(), "lobby")
		require.NoError(t, err)
		_, err = b.Send(ctx, realtime.ToRoom(e.Room), realtime.Chat("", "hi"))
		require.NoError(t, err)
		answers <- name
	}}
	bubble(t, o, func(t *testing.T, bed *bed) {
		b, answers = bed, make(chan string, 1)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		require.NoError(t, alice.Write([]byte(`{"type":"join","id":1,"room":"lobby"}`)))
		require.NoError(t, alice.Write([]byte(`{"type":"ping","id":2}`)))
		frames := alice.raw()
		require.Len(t, frames, 2, "the ping waits")
		var call struct {
			Type string          `json:"message_type"`
			ID   json.RawMessage `json:"id"`
		}
		require.NoError(t, json.Unmarshal([]byte(frames[1]), &call))
		require.Equal(t, "call", call.Type)
		require.NoError(t, alice.Write([]byte(`{"type":"reply","id":`+string(call.ID)+`,"content":"al"}`)))
		require.Equal(t, "al", <-answers)
		require.Equal(t, []string{"second"}, alice.conn.Rooms())
		require.Contains(t, strings.Join(alice.raw(), ""), `"reply","id":2`)
	})
}

// A panic in OnRoom, or a Goexit, loses no event and ends no connection.
func TestRoomEventsSurvivePanics(t *testing.T) {
	var events diary
	o := withEvents(&events)
	onRoom := o.OnRoom
	o.OnRoom = func(ctx context.Context, e realtime.RoomEvent) {
		onRoom(ctx, e)
		switch e.Conn.UserID() {
		case "panic":
			panic("oh")
		case "exit":
			runtime.Goexit()
		}
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		clients := []*client{b.open("panic"), b.open("exit"), b.open("alice")}
		for _, c := range clients {
			b.joinAll(c, "lobby")
		}
		require.Len(t, events.read(), 3)
		clients[0].say("hi", "room")
		require.NotEmpty(t, clients[2].got())
		require.Equal(t, uint64(2), b.Stats().Panics)
		for _, c := range clients {
			require.Nil(t, c.ended())
		}
	})
}

// Shutdown reports that all have left, and waits for OnRoom. It may be called there.
func TestRoomEventsAndShutdown(t *testing.T) {
	for _, inside := range []bool{false, true} {
		t.Run(fmt.Sprint("inside=", inside), func(t *testing.T) {
			var b *bed
			var events diary
			o := withEvents(&events)
			onRoom := o.OnRoom
			var stopped chan error
			o.OnRoom = func(ctx context.Context, e realtime.RoomEvent) {
				time.Sleep(time.Second)
				if inside && e.Kind == realtime.MemberJoined && e.Room == "lobby" {
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					stopped <- b.Shutdown(ctx)
				}
				onRoom(ctx, e)
			}
			bubble(t, o, func(t *testing.T, bed *bed) {
				b, stopped = bed, make(chan error, 1)
				lost, _ := b.session("lost")
				b.joinAll(lost, "hall")
				lost.Drop()
				synctest.Wait()
				alice := b.open("alice")
				b.joinAll(alice, "hall", "lobby")
				start := time.Now()
				if inside {
					require.NoError(t, <-stopped)
					require.Less(t, time.Since(start), 20*time.Second, "it does not wait for itself")
					time.Sleep(time.Minute)
				} else {
					require.NoError(t, b.Shutdown(t.Context()))
				}
				lines := events.read()
				require.Len(t, lines, 7, lines)
				require.Contains(t, lines, "lost left hall, user left, emptied, lost 0/0")
				require.Contains(t, lines, "alice left hall, user left, shutdown 1/1")
				require.Contains(t, lines, "alice left lobby, user left, emptied, shutdown 0/0")
			})
		})
	}
}

// Close does not wait for OnRoom, which nevertheless gets all events.
func TestRoomEventsAndClose(t *testing.T) {
	var events diary
	var release chan struct{}
	o := withEvents(&events)
	onRoom := o.OnRoom
	o.OnRoom = func(ctx context.Context, e realtime.RoomEvent) {
		<-release
		onRoom(ctx, e)
	}
	o.History = realtime.Retention{Messages: 10}
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, o)
		release = make(chan struct{})
		b.joinAll(b.open("alice"), "lobby")
		require.NoError(t, b.Close())
		require.Equal(t, 1, b.Stats().Rooms, "its events wait")
		close(release)
		require.Equal(t, []string{
			"alice joined lobby, opened, user joined 1/1",
			"alice left lobby, user left, emptied, shutdown 0/0",
		}, events.read())
		requireConserved(t, b.Stats())
	})
}

// While 1,024 events of a room wait, clients wait before they join it, so clients that come and go
// do not make the queue grow.
func TestRoomEventsHoldClientsBack(t *testing.T) {
	var b *bed
	var release chan struct{}
	handled := 0
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			if c.UserID() != "auto" {
				return nil
			}
			_, err := b.Join(ctx, c.ID(), "lobby")
			return err
		},
		OnRoom: func(context.Context, realtime.RoomEvent) {
			<-release
			handled++
		},
	}
	bubble(t, o, func(t *testing.T, bed *bed) {
		b, release = bed, make(chan struct{})
		lost, w := b.session("lost")
		b.joinAll(lost, "lobby")
		lost.Drop()
		synctest.Wait()
		app := b.open("app")
		for range 512 { // the application does not wait
			b.joinAll(app, "lobby")
			_, err := b.Leave(t.Context(), app.conn.ID(), "lobby")
			require.NoError(t, err)
		}
		require.Equal(t, 1026, b.Stats().RoomEvents)
		joins := []*client{b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "gone"})}
		for _, c := range joins {
			c.discard()
			require.NoError(t, c.Write([]byte(`{"type":"join","id":1,"room":"lobby"}`)))
			require.NoError(t, c.Write([]byte(`{"type":"ping","id":2}`)))
		}
		again := b.openV1(realtime.Identity{UserID: "lost"})
		again.discard()
		require.NoError(t, again.Write([]byte(`{"type":"resume","id":1,"session":"`+w.Session+`"}`)))
		registered := make(chan *client)
		go func() { registered <- b.open("auto") }()
		for _, c := range append(joins, again) {
			require.Empty(t, c.raw())
			require.Nil(t, c.ended())
		}
		require.Empty(t, registered)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Equal(t, http.StatusServiceUnavailable, app.restJoin(ctx, b, "lobby").Code)
		joins[1].Drop()
		time.Sleep(6 * time.Second) // after which it is noticed, as while a handler runs
		require.Equal(t, []string{"lost"}, b.members("lobby"))
		require.Equal(t, 1026, b.Stats().RoomEvents)
		joins[0].request(`{"type":"ping","id":3}`)
		close(release)
		<-registered
		require.Len(t, joins[0].raw(), 3)
		require.Equal(t, []string{"alice", "auto", "lost"}, b.members("lobby"))
		require.Zero(t, b.Stats().RoomEvents)
		require.Equal(t, 1026+3, handled)
	})
}

// The text ping of a client that only listens is answered while its join waits for OnRoom: otherwise
// clients would give up connections, and join again, when there is already too much to handle.
func TestRoomEventsDelayNoPing(t *testing.T) {
	var release chan struct{}
	o := realtime.Options{OnRoom: func(context.Context, realtime.RoomEvent) { <-release }}
	bubble(t, o, func(t *testing.T, b *bed) {
		release = make(chan struct{})
		for _, c := range []*client{b.open("alice"), b.openV1(realtime.Identity{UserID: "bob"})} {
			b.join("lobby", c)
			require.Equal(t, []string{"pong"}, c.request("ping"))
		}
		close(release)
	})
}

// The REST interface cannot put a connection into more and more rooms whose events wait: a join
// waits for those before it, as the messages of the client do.
func TestRoomEventsHoldRESTBack(t *testing.T) {
	var release chan struct{}
	o := realtime.Options{OnRoom: func(context.Context, realtime.RoomEvent) { <-release }}
	bubble(t, o, func(t *testing.T, b *bed) {
		release = make(chan struct{})
		alice := b.open("alice")
		require.Equal(t, http.StatusOK, alice.restJoin(t.Context(), b, "room0").Code)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i := range 10 {
			require.Equal(t, http.StatusServiceUnavailable, alice.restJoin(ctx, b, fmt.Sprint("more", i)).Code)
		}
		require.Equal(t, []string{"room0"}, slices.Collect(b.LocalRooms()))
		later := make(chan int)
		go func() { later <- alice.restJoin(t.Context(), b, "room1").Code }()
		gone := make(chan int)
		go func() { gone <- b.open("bob").restJoin(t.Context(), b, "room0").Code }()
		synctest.Wait()
		require.Equal(t, http.StatusOK, <-gone, "another connection does not wait for that")
		close(release)
		require.Equal(t, http.StatusOK, <-later)
		require.Equal(t, []string{"room1"}, alice.conn.Rooms())
	})
}

// OnRoom may register a connection that joins the same room, even while events wait.
func TestRoomEventsMayRegister(t *testing.T) {
	var b *bed
	once := false
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, err := b.Join(ctx, c.ID(), "lobby")
			return err
		},
		OnRoom: func(ctx context.Context, e realtime.RoomEvent) {
			if e.Conn.UserID() != "alice" || once {
				return
			}
			once = true
			for range 600 {
				_, _ = b.Leave(ctx, e.Conn.ID(), "lobby")
				_, _ = b.Join(ctx, e.Conn.ID(), "lobby")
			}
			transport, far := realtime.Pipe()
			b.t.Cleanup(far.Drop)
			_, err := b.Register(ctx, transport, realtime.Identity{UserID: "bot"})
			require.NoError(b.t, err)
		},
	}
	bubble(t, o, func(t *testing.T, bed *bed) {
		b = bed
		b.open("alice")
		synctest.Wait()
		require.Equal(t, []string{"alice", "bot"}, b.members("lobby"))
		require.Zero(t, b.Stats().RoomEvents)
	})
}

// A call of OnRoom that takes long is logged.
func TestRoomEventsThatAreSlow(t *testing.T) {
	var log lockedBuffer
	o := realtime.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnRoom: func(context.Context, realtime.RoomEvent) { time.Sleep(6 * time.Second) },
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.joinAll(b.open("alice"), "lobby")
		time.Sleep(4 * time.Second)
		require.NotContains(t, log.String(), "OnRoom")
		time.Sleep(2 * time.Second)
		require.Contains(t, log.String(), "OnRoom is slow")
		require.Contains(t, log.String(), "room=lobby")
		_ = b.Shutdown(t.Context())
	})
}

// roster is the presence of a room, built from its events.
type roster struct {
	members map[*realtime.Conn]bool // whether it is away
}

// user returns how many connections of a user are members, and how many of them are open.
func (r *roster) user(id string) (all, open int) {
	for c, away := range r.members {
		if c.UserID() == id {
			all++
			if !away {
				open++
			}
		}
	}
	return all, open
}

// apply applies an event, and checks it against the events before.
func (r *roster) apply(e realtime.RoomEvent) error {
	if r.members == nil {
		r.members = make(map[*realtime.Conn]bool)
	}
	user, known := e.Conn.UserID(), e.Conn.UserID() != ""
	empty := len(r.members) == 0
	all, open := r.user(user)
	away, member := r.members[e.Conn]
	ok := member
	switch e.Kind {
	case realtime.MemberJoined:
		ok = !member
		r.members[e.Conn] = false
	case realtime.MemberAway:
		ok = ok && !away && e.Why != nil && (e.Why.Grace > 0) == (e.Why.Cause != realtime.CauseReplaced)
		r.members[e.Conn] = true
	case realtime.MemberBack:
		wasAway, was := r.members[e.Was]
		ok = was && wasAway && !member
		delete(r.members, e.Was)
		r.members[e.Conn] = false
	case realtime.MemberLeft:
		delete(r.members, e.Conn)
	}
	allNow, openNow := r.user(user)
	want := e
	want.Opened, want.Emptied = empty && len(r.members) > 0, !empty && len(r.members) == 0
	want.UserJoined, want.UserLeft = known && all == 0 && allNow > 0, known && all > 0 && allNow == 0
	want.UserAway = known && open > 0 && openNow == 0 && allNow > 0
	want.UserBack = known && all > 0 && open == 0 && openNow > 0
	want.Count = realtime.Count{Users: len(r.named()), Conns: len(r.members)}
	if !ok || e != want {
		return fmt.Errorf("%s: want %s", eventLine(e), eventLine(want))
	}
	return nil
}

// named returns the users that are not anonymous, sorted.
func (r *roster) named() []string {
	users := []string{}
	for c := range r.members {
		if user := c.UserID(); user != "" {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// The events of each room give its presence, whatever connections do at the same time.
func TestRoomEventsGivePresence(t *testing.T) {
	const numRooms, numConns, steps = 16, 50, 60
	var mu sync.Mutex
	rosters := make(map[string]*roster)
	var wrong []error
	o := realtime.Options{
		Limits: realtime.Limits{HandshakeRate: -1, InboundRate: -1, ConnsPerUser: -1},
		OnRoom: func(_ context.Context, e realtime.RoomEvent) {
			mu.Lock()
			defer mu.Unlock()
			if rosters[e.Room] == nil {
				rosters[e.Room] = &roster{}
			}
			if err := rosters[e.Room].apply(e); err != nil {
				wrong = append(wrong, err)
			}
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		var work sync.WaitGroup
		for i := range numConns {
			work.Go(func() {
				p := &wanderer{bed: b, user: []string{"", fmt.Sprint("user", i/2)}[min(i%5, 1)]}
				p.random = rand.New(rand.NewPCG(uint64(i), 7))
				for range steps {
					p.step(fmt.Sprint("room", p.random.IntN(numRooms)))
				}
			})
		}
		work.Wait()
		synctest.Wait()
		check := func() {
			mu.Lock()
			defer mu.Unlock()
			require.Empty(t, wrong)
			for name, r := range rosters {
				require.Equal(t, b.members(name), r.named(), name)
				count, err := b.Room(name).Count(t.Context())
				require.NoError(t, err)
				require.Len(t, r.members, count.Conns, name)
				for c := range b.Room(name).LocalConns() {
					away, member := r.members[c]
					require.True(t, member && !away, name)
				}
			}
			require.Len(t, rosters, numRooms)
		}
		check()
		require.NotZero(t, b.Stats().Resumed)
		require.NoError(t, b.Shutdown(t.Context()))
		check()
		for name, r := range rosters {
			require.Empty(t, r.members, name)
		}
	})
}

// wanderer is a user who joins and leaves rooms, loses connections, and resumes sessions.
type wanderer struct {
	*bed
	user   string
	random *rand.Rand
	far    *realtime.PipeClient
	conn   *realtime.Conn
	token  string // of the session of conn
	lost   string // of the session before that
}

func (p *wanderer) connect() {
	transport, far := realtime.Pipe(realtime.V1)
	conn, err := p.Register(p.t.Context(), transport, realtime.Identity{UserID: p.user})
	if err != nil {
		return
	}
	p.t.Cleanup(far.Drop)
	frame, _, err := far.Read(p.t.Context())
	if err != nil {
		return
	}
	var f struct{ Content welcomeContent }
	_ = json.Unmarshal(frame, &f)
	p.far, p.conn, p.lost, p.token = far, conn, p.token, f.Content.Session
	go func() {
		for err == nil {
			_, _, err = far.Read(context.Background())
		}
	}()
}

func (p *wanderer) step(room string) {
	if p.conn == nil || p.conn.Context().Err() != nil {
		if p.connect(); p.conn == nil {
			return
		}
	}
	ctx := p.t.Context()
	switch p.random.IntN(15) {
	case 0:
		p.far.Drop()
	case 1:
		p.far.Close(realtime.CloseNormal, "")
	case 2:
		_ = p.conn.Close(realtime.CloseRestart, "")
	case 3, 4, 5:
		_ = p.far.Write([]byte(`{"type":"resume","id":1,"session":"` + p.lost + `"}`))
	case 6:
		_, _ = p.Room(room).Remove(ctx, p.user)
	case 7:
		_, _ = p.Leave(ctx, p.conn.ID(), room)
	case 8, 9:
		_, _ = p.Join(ctx, p.conn.ID(), room)
	case 10:
		_, _ = p.User(p.user).Disconnect(ctx, realtime.CloseNormal, "")
	case 11:
		_, _ = p.User(p.user).Deny(ctx, time.Second)
	case 12:
		_, _ = p.User(p.user).Join(ctx, room)
	default:
		_ = p.far.Write([]byte(`{"type":"join","id":1,"room":"` + room + `"}`))
	}
	if p.random.IntN(4) == 0 {
		time.Sleep(time.Duration(p.random.IntN(20)) * time.Second)
	}
}
