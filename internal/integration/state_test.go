package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// answer returns the answer among the frames that follow a request.
func (c *client) answer(request string) string {
	c.t.Helper()
	for _, raw := range c.request(request) {
		if strings.HasPrefix(raw, `{"message_type":"reply"`) || strings.HasPrefix(raw, `{"message_type":"error"`) {
			return raw
		}
	}
	require.Fail(c.t, "no answer", request)
	return ""
}

// jsonOf is a JSON string of n bytes.
func jsonOf(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

// A state and an info have at most 1 KiB, and nothing that is not JSON gets out.
func TestStatesAreChecked(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		const ok = `{"message_type":"reply","id":1`
		join := func(more string) string {
			return alice.answer(`{"type":"join","id":1,"room":"hall"` + more + `}`)
		}
		set := func(more string) string {
			return alice.answer(`{"type":"state","id":1,"room":"hall"` + more + `}`)
		}
		require.Contains(t, set(`,"state":1`), "no_member")
		require.Contains(t, join(`,"state":`+jsonOf(1025)), `"code":"too_large"`)
		require.NotContains(t, b.members("hall"), "alice")
		require.Contains(t, join(`,"state":`+jsonOf(1024)), ok)
		require.Contains(t, join(`,"state":`+jsonOf(1025)), `"code":"too_large"`)
		require.Contains(t, set(`,"state":`+jsonOf(1025)), `"code":"too_large"`)
		require.Contains(t, set(`,"state":"\ud83d\ude00 \u0000 é"`), ok)
		require.Contains(t, set(`,"state":{"a":[1e400,-0, true,null]}`), ok)
		for _, wrong := range []string{
			`{`, `"`, `nul`, `01`, `[1,]`, "\"\x01\"", `{"a":1}}`, `1,"state":2`,
			strings.Repeat("[", 65) + strings.Repeat("]", 65),
		} {
			require.NoError(t, alice.Write([]byte(`{"type":"state","id":1,"room":"hall","state":`+wrong+`}`)))
			got := strings.Join(alice.raw(), "")
			require.Contains(t, got, `"code":"bad_request"`, wrong)
		}
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Equal(t, `{"a":[1e400,-0, true,null]}`, string(stateOf(f, "alice")))
		require.Contains(t, set(""), ok)
		time.Sleep(time.Second)
		require.Empty(t, stateOf(f.see(bob), "alice"))

		require.NoError(t, alice.conn.SetInfo(json.RawMessage(jsonOf(1024))))
		require.ErrorIs(t, alice.conn.SetInfo(json.RawMessage(jsonOf(1025))), realtime.ErrTooLarge)
		for _, wrong := range []any{
			json.RawMessage(`{`), json.RawMessage("\"\xff\""), json.RawMessage("1 2"), make(chan int), []byte("x"), func() {},
		} {
			require.ErrorIs(t, alice.conn.SetInfo(wrong), realtime.ErrInvalidMessage, wrong)
		}
		for _, info := range []string{jsonOf(1025), `{`} {
			transport, far := realtime.Pipe(realtime.V1)
			c := b.attach(transport, far, realtime.Identity{UserID: "x", Info: json.RawMessage(info)})
			require.Error(t, c.err)
			require.Error(t, alice.conn.Renew(realtime.Identity{UserID: "alice", Info: json.RawMessage(info)}))
		}
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.NoError(t, alice.conn.SetInfo(nil))
		require.NoError(t, alice.conn.SetInfo(json.RawMessage("null")))
		require.NoError(t, alice.conn.Renew(realtime.Identity{UserID: "alice", Info: json.RawMessage(`"new"`)}))
		time.Sleep(time.Second)
		require.Equal(t, `"new"`, string(infoOf(f.see(bob), "alice")))
		transport, far := realtime.Pipe(realtime.V1)
		null := b.attach(transport, far, realtime.Identity{UserID: "null", Info: json.RawMessage("null")})
		b.joinAll(null, "hall")
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Nil(t, infoOf(f, "null"))
	})
}

func stateOf(f *fold, user string) json.RawMessage { return entryOf(f, user).State }

func infoOf(f *fold, user string) json.RawMessage { return entryOf(f, user).Info }

func entryOf(f *fold, user string) entry {
	for _, e := range f.entries {
		if e.User == user {
			return e
		}
	}
	require.Fail(f.t, "no entry", user)
	return entry{}
}

// A client says nothing about others, and nothing in a room that does not show its members.
func TestStatesOfRoomsThatShowLess(t *testing.T) {
	for _, show := range []realtime.Show{realtime.ShowDefault, realtime.ShowCount} {
		bubble(t, realtime.Options{Show: show}, func(t *testing.T, b *bed) {
			alice := b.openV1(realtime.Identity{UserID: "alice", Info: json.RawMessage(`1`)})
			alice.discard()
			require.Contains(t, alice.answer(`{"type":"join","id":1,"room":"hall","state":1}`), `"code":"forbidden"`)
			require.Empty(t, b.members("hall"))
			name := map[realtime.Show]string{realtime.ShowCount: "count"}[show]
			if name == "" {
				name = "nothing"
			}
			require.Equal(t, `{"message_type":"reply","id":1,"content":{"show":"`+name+`"}}`,
				alice.answer(`{"type":"join","id":1,"room":"hall","presence":true}`))
			require.Contains(t, alice.answer(`{"type":"join","id":1,"room":"hall","state":1}`), `"code":"forbidden"`)
			require.Contains(t, alice.answer(`{"type":"state","id":1,"room":"hall","state":1}`), `"code":"forbidden"`)
			require.NoError(t, alice.conn.SetInfo("secret"))
			bob := b.openV1(realtime.Identity{UserID: "bob"})
			bob.discard()
			f := newFold(t, "hall")
			for _, raw := range bob.request(`{"type":"join","id":1,"room":"hall","presence":true}`) {
				require.NotContains(t, raw, "secret")
				require.NotContains(t, raw, "alice")
				f.add([]byte(raw))
			}
			time.Sleep(2 * time.Second)
			f.see(bob)
			if show == realtime.ShowCount {
				require.Equal(t, 2, f.conns)
			} else {
				require.Zero(t, f.frames)
			}
			members, err := b.Room("hall").Members(t.Context())
			require.NoError(t, err)
			require.Len(t, members, 2)
			require.Equal(t, realtime.Member{Conn: alice.conn.ID(), User: "alice"}, members[0])
			alice.Close(realtime.CloseNormal, "")
			time.Sleep(2 * time.Second)
			if f.see(bob); show == realtime.ShowCount {
				require.Equal(t, 1, f.conns)
			}
		})
	}
}

// The authorizer is asked about watching and about states, and a refusal refuses the whole join.
func TestStatesAreAuthorized(t *testing.T) {
	var asked []string
	refused := realtime.ActionKind("")
	o := showing()
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		asked = append(asked, fmt.Sprint(a.Kind, " ", a.Room, a.Latest))
		if a.Kind == refused {
			return errors.New("no")
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		took := func(request string) (answer string, actions []string) {
			asked = nil
			answer = alice.answer(request)
			return answer, asked
		}
		join := `{"type":"join","id":1,"room":"hall","presence":true,"state":1}`
		for kind, want := range map[realtime.ActionKind][]string{
			realtime.ActionJoin:    {"join hall"},
			realtime.ActionMembers: {"join hall", "members hall"},
			realtime.ActionState:   {"join hall", "members hall", "state hall"},
		} {
			refused = kind
			answer, actions := took(join)
			require.Contains(t, answer, `"code":"forbidden"`)
			require.Equal(t, want, actions)
			require.Empty(t, b.members("hall"))
			require.Zero(t, b.Stats().Rooms)
		}
		refused = ""
		answer, _ := took(join)
		require.Contains(t, answer, `"reply"`)
		_, actions := took(`{"type":"state","id":1,"room":"hall","state":2}`)
		require.Equal(t, []string{"state hall"}, actions)
		_, actions = took(`{"type":"send","id":1,"room":"hall","latest":"k","content":2}`)
		require.Equal(t, []string{"send k"}, actions)
		_, actions = took(`{"type":"recover","id":1,"room":"hall","presence":true,"state":3}`)
		require.Equal(t, []string{"members hall", "state hall"}, actions)
		for _, kind := range []realtime.ActionKind{realtime.ActionMembers, realtime.ActionState} {
			refused = kind
			answer, _ = took(`{"type":"recover","id":1,"room":"hall","presence":true,"state":4}`)
			require.Contains(t, answer, `"code":"forbidden"`)
			answer, _ = took(`{"type":"join","id":1,"room":"hall","presence":true,"state":4}`)
			require.Contains(t, answer, `"code":"forbidden"`)
		}
		members, err := b.Room("hall").Members(t.Context())
		require.NoError(t, err)
		require.Equal(t, "3", string(members[0].State))
	})
}

// A refresh that loses the permission for a room takes its entry away.
func TestRefreshEndsPresence(t *testing.T) {
	allowed := true
	o := showing()
	o.Revalidate = func(_ context.Context, c *realtime.Conn, _ string) (realtime.Identity, error) {
		return realtime.Identity{UserID: c.UserID(), Info: json.RawMessage(`"renewed"`)}, nil
	}
	o.Authorize = func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
		if !allowed && c.UserID() == "alice" && a.Kind == realtime.ActionJoin {
			return errors.New("no")
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob, alice := b.openV1(realtime.Identity{UserID: "bob"}), b.openV1(realtime.Identity{UserID: "alice"})
		f, g := b.watch(bob, "hall", ""), b.watch(alice, "hall", "")
		require.Contains(t, alice.answer(`{"type":"refresh","id":1,"token":"x"}`), "reply")
		time.Sleep(time.Second)
		require.Equal(t, `"renewed"`, string(infoOf(f.see(bob), "alice")))
		allowed = false
		n := g.all(alice).frames
		require.Contains(t, alice.answer(`{"type":"refresh","id":1,"token":"x"}`), "reply")
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.NotContains(t, f.entries, "alice")
		require.Len(t, f.entries, 1)
		require.NoError(t, bob.conn.SetInfo(1))
		time.Sleep(time.Second)
		require.Equal(t, n, g.all(alice).frames, "it watches no more")
	})
}

// A refresh that loses the permission to watch a room of the application ends that, and nothing else.
func TestRefreshEndsWatching(t *testing.T) {
	allowed := true
	o := showing()
	o.Revalidate = func(_ context.Context, c *realtime.Conn, _ string) (realtime.Identity, error) {
		return realtime.Identity{UserID: c.UserID()}, nil
	}
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if !allowed && a.Kind == realtime.ActionMembers {
			return errors.New("no")
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		_, err := alice.conn.Join(t.Context(), "hall")
		require.NoError(t, err)
		f := newFold(t, "hall")
		alice.request(`{"type":"recover","id":1,"room":"hall","presence":true}`)
		require.Contains(t, alice.answer(`{"type":"refresh","id":2,"token":"x"}`), "reply")
		allowed = false
		frames := alice.request(`{"type":"refresh","id":3,"token":"x"}`)
		require.Len(t, frames, 3)
		require.Equal(t, `{"message_type":"presence","room":"hall","show":"nothing","user_count":0,"connection_count":0}`, frames[0])
		require.Contains(t, frames[1], `"id":null,"content":{"code":"forbidden"`)
		require.Contains(t, frames[1], `"room":"hall"`)
		require.Contains(t, frames[2], `"reply","id":3`)
		require.NoError(t, alice.conn.SetInfo(1))
		require.NoError(t, second(b.value(realtime.ToRoom("hall"), "k", "1")))
		time.Sleep(time.Second)
		f.all(alice)
		require.Empty(t, f.entries, "it watches no more")
		require.Len(t, f.values, 1, "it is a member")
	})
}

// Connections that the application joins have entries, and may watch with recover.
func TestPresenceOfRoomsOfTheApplication(t *testing.T) {
	o := showing()
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		if _, err := c.Join(ctx, "hall"); err != nil {
			return err
		}
		return c.SetInfo(map[string]string{"name": c.UserID()})
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		require.Regexp(t, `^\{"message_type":"joined","room":"hall"`, alice.raw()[0])
		f := newFold(t, "hall")
		recover := func(c *client, more string) {
			for _, raw := range c.request(`{"type":"recover","id":1,"room":"hall"` + more + `}`) {
				require.NotContains(t, raw, `"error"`)
				f.add([]byte(raw))
			}
		}
		recover(alice, `,"presence":true,"state":1`)
		require.Equal(t, "1", string(stateOf(f, "alice")))
		require.Equal(t, `{"name":"alice"}`, string(infoOf(f, "alice")))
		bob, _ := b.session("bob")
		bob.discard()
		time.Sleep(time.Second)
		f.see(alice).same(b.Manager)
		require.Len(t, f.entries, 2)
		require.Contains(t, bob.answer(`{"type":"state","id":1,"room":"hall","state":5}`), "reply")
		alice.Drop()
		again, _ := b.session("alice") // joins the hall in OnConnect, so the old membership ends
		again.resumes(w.Session)
		f.frames = 0
		recover(again, fmt.Sprintf(`,"presence":%d,"state":1`, f.version))
		time.Sleep(time.Second)
		f.see(again).same(b.Manager)
		require.Len(t, f.entries, 2)
	})
}

// What the application says stays when a session is resumed.
func TestInfoStaysWithASession(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		alice, w := b.session("alice")
		alice.request(`{"type":"join","id":1,"room":"hall","state":[1]}`)
		require.NoError(t, alice.conn.SetInfo("speaker"))
		time.Sleep(time.Second)
		before := f.see(bob).frames
		alice.Drop()
		again, _ := b.session("alice")
		again.resumes(w.Session)
		require.Contains(t, again.answer(`{"type":"join","id":1,"room":"hall","state":[1]}`), "reply")
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Equal(t, `"speaker"`, string(infoOf(f, "alice")))
		require.Equal(t, before, f.frames, "others see no change")
		require.Equal(t, `"speaker"`, string(again.conn.Identity().Info))
	})
}

// A member of a room may be in no more rooms than it may be, with or without presence.
func TestPresenceAndRoomsPerConn(t *testing.T) {
	o := showing()
	o.Limits.RoomsPerConn = 1
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		bob.request(`{"type":"join","id":1,"room":"attic"}`)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		f := b.watch(alice, "hall", "")
		require.Contains(t, alice.answer(`{"type":"join","id":1,"room":"attic","presence":true,"state":1}`), `"code":"limit"`)
		require.Equal(t, []string{"bob"}, b.members("attic"))
		f.see(alice).same(b.Manager)
	})
}

// The REST interface moves connections whose room has presence as before.
func TestRESTAndPresence(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		post := func(what, body string) string {
			r := httptest.NewRequest(http.MethodPost, "/connections/"+alice.conn.ID()+"/"+what, strings.NewReader(body))
			w := httptest.NewRecorder()
			b.API(realtime.InsecureAllowRequests).ServeHTTP(w, r)
			return strings.TrimSpace(w.Body.String())
		}
		require.Equal(t, `{"status":"joined"}`, post("join", `{"room_id":"hall"}`))
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 2)
		require.Equal(t, `{"status":"joined"}`, post("join", `{"room_id":"attic"}`))
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 1)
		require.Equal(t, `{"status":"joined"}`, post("join", `{"room_id":"hall"}`))
		require.Equal(t, `{"status":"left"}`, post("leave", ``))
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 1)
		r := httptest.NewRequest(http.MethodGet, "/rooms/hall/users", nil)
		w := httptest.NewRecorder()
		b.API(realtime.InsecureAllowRequests).ServeHTTP(w, r)
		require.Equal(t, `{"room_id":"hall","users":["bob"],"user_count":1}`, strings.TrimSpace(w.Body.String()))
	})
}

// Watching begins with the answer, then the entries, then the values, then the kept messages.
func TestOrderOfAJoin(t *testing.T) {
	o := keeping(100)
	o.Show = realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		keeper := b.openV1(realtime.Identity{UserID: "keeper"})
		b.join("hall", keeper)
		b.mustValue(realtime.ToRoom("hall"), "k", "1")
		b.news(realtime.ToRoom("hall"), "kept")
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		got := alice.request(`{"type":"join","id":1,"room":"hall","history":5,"presence":true,"state":1}`)
		require.Len(t, got, 5)
		for i, want := range []string{`"reply"`, `"presence"`, `"latest":"k"`, `_type":"latest"`, `"kept"`} {
			require.Contains(t, got[i], want)
		}
		synctest.Wait()
	})
}

// A kick ends the presence of a connection once, and its client is not a watcher any more.
func TestKicksAndPresence(t *testing.T) {
	for name, kick := range map[string]func(b *bed) error{
		"remove": func(b *bed) error { return second(b.Room("hall").Remove(b.t.Context(), "alice")) },
		"deny":   func(b *bed) error { return second(b.Room("hall").Deny(b.t.Context(), "alice", time.Minute)) },
		"user":   func(b *bed) error { return second(b.User("alice").Deny(b.t.Context(), time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, showing(), func(t *testing.T, b *bed) {
				bob := b.openV1(realtime.Identity{UserID: "bob"})
				f := b.watch(bob, "hall", "")
				alice, lost := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "alice"})
				g := b.watch(alice, "hall", "")
				b.watch(lost, "hall", "")
				lost.Drop()
				time.Sleep(5 * time.Second)
				g.see(alice).same(b.Manager)
				require.NoError(t, kick(b))
				time.Sleep(time.Second)
				n := g.all(alice).frames
				f.see(bob).same(b.Manager)
				require.Len(t, f.entries, 1)
				require.NoError(t, bob.conn.SetInfo(1))
				time.Sleep(time.Second)
				require.Equal(t, n, g.all(alice).frames)
				require.Equal(t, 2, strings.Count(strings.Join(f.see(bob).log, " "), "gone alice"))
				if name == "deny" {
					require.Contains(t, alice.answer(`{"type":"join","id":1,"room":"hall","presence":true,"state":1}`), "denied")
					require.Contains(t, alice.answer(`{"type":"state","id":1,"room":"hall","state":1}`), "no_member")
				}
			})
		})
	}
}
