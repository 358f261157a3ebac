package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// recovers asks for what is behind a position in the hall.
func (c *client) recovers(at realtime.Position) []string {
	c.t.Helper()
	return c.asks(`{"type":"recover","id":2,"room":"hall"` + since(at) + `}`)
}

// givesHall puts each connection into the hall when it opens.
func givesHall(o realtime.Options, give func() bool) (realtime.Options, func(b *bed)) {
	var b *bed
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		if !give() {
			return nil
		}
		_, err := b.Join(ctx, c.ID(), "hall")
		return err
	}
	return o, func(made *bed) { b = made }
}

func always() bool { return true }

const notMember = `{"message_type":"error","id":2,"content":{"code":"no_member","message":"not in the room"}}`

// A client learns of each room that it is put into, and where it begins there, in front of
// everything of that room. It knows what it has asked for itself.
func TestJoinedIsTold(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		b.tell(1, 2)
		alice, w := b.session("alice")
		joined, err := b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.True(t, joined)
		b.tell(3, 3)
		frames := alice.raw()
		require.Len(t, frames, 2)
		require.Regexp(t,
			`^\{"message_type":"joined","room":"hall","content":\{"epoch":"[^"]+","offset":2,"top":2\}\}$`, frames[0])
		require.Contains(t, frames[1], `"offset":3,"prev":2`)

		joined, err = b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.False(t, joined)
		require.Empty(t, alice.raw(), "it is no news")
		require.Len(t, alice.asks(`{"type":"join","id":3,"room":"own"}`), 1, "the answer")
		_, err = b.Leave(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.Equal(t, []string{`{"message_type":"left","room":"hall"}`}, alice.raw())

		_, err = b.JoinFrom(t.Context(), alice.conn.ID(), "hall", realtime.From{Last: 2})
		require.NoError(t, err)
		frames = alice.raw()
		require.Len(t, frames, 3)
		require.Contains(t, frames[0], `"offset":1,"top":3}}`)

		post(t, b.API(func(*http.Request, realtime.Action) error { return nil }), alice.conn.ID(), "join",
			`{"room_id":"rest"}`)
		require.Contains(t, alice.raw()[0], `{"message_type":"joined","room":"rest","content":{"epoch":`)
		alice.Drop()
		synctest.Wait()

		again, _ := b.session("alice")
		frames = again.asks(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, w.Session))
		require.Len(t, frames, 3, "of the rooms that it has not asked for, in front of the answer")
		require.Contains(t, frames[0], `{"message_type":"joined","room":"hall","content":{"epoch":`)
		require.Contains(t, frames[1], `{"message_type":"joined","room":"rest","content":{"epoch":`)
		require.Equal(t, rooms("own", "hall", "rest"), frames[2])
	})
}

// A room that keeps nothing has no position, and a plain client is told nothing.
func TestJoinedWithoutHistory(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, plain := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.hush()
		plain.hush()
		for _, c := range []*client{alice, plain} {
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
		}
		require.Equal(t, []string{`{"message_type":"joined","room":"hall"}`}, alice.raw())
		require.Empty(t, plain.raw())
		frames := alice.recovers(realtime.Position{Epoch: "r1", Offset: 3})
		require.Equal(t, []string{
			`{"message_type":"reply","id":2,"content":{"recovered":false,"reason":"unknown"}}`,
		}, frames)
	})
}

// A client that is put into a room again goes on where it was, also with a session that is resumed,
// and nothing is missing or twice.
func TestRecoveryOfAGivenRoom(t *testing.T) {
	for _, resumes := range []bool{false, true} {
		t.Run(fmt.Sprint(resumes), func(t *testing.T) {
			o, made := givesHall(keeping(100), func() bool { return !resumes })
			bubble(t, o, func(t *testing.T, b *bed) {
				made(b)
				alice, w := b.session("alice")
				if resumes {
					_, err := b.Join(t.Context(), alice.conn.ID(), "hall")
					require.NoError(t, err)
				}
				r := &reader{t: t}
				r.join(alice.raw())
				b.tell(1, 3)
				r.hear(alice.raw())
				alice.Drop()
				synctest.Wait()
				b.tell(4, 6)
				again, _ := b.session("alice")
				if resumes {
					again.resumes(w.Session)
				}
				b.tell(7, 7)
				again.hush() // ignored: where it begins is not where the client is
				r.hear(again.recovers(r.at))
				b.tell(8, 8)
				r.hear(again.raw())
				require.Equal(t, words(1, 8), r.said())
				require.Empty(t, r.gaps)
			})
		})
	}
}

// join takes in where the hall begins for who is put into it.
func (r *reader) join(frames []string) {
	r.t.Helper()
	for _, text := range frames {
		if rest, ok := strings.CutPrefix(text, `{"message_type":"joined","room":"hall","content":`); ok {
			require.NoError(r.t, json.Unmarshal([]byte(strings.TrimSuffix(rest, "}")), &r.at))
			return
		}
	}
	r.t.Fatalf("not told of the hall: %v", frames)
}

// A client has no way into a room that only the application may give: not if it was taken out while
// it was away, nor if it never was in.
func TestNoWayBackByRecover(t *testing.T) {
	given := true
	o, made := givesHall(keeping(100), func() bool { return given })
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionJoin {
			return realtime.ErrForbidden
		}
		return nil
	}
	for name, out := range map[string]func(b *bed, c *realtime.Conn){
		"removed": func(b *bed, _ *realtime.Conn) { _, _ = b.Room("hall").Remove(b.t.Context(), "alice") },
		"denied": func(b *bed, _ *realtime.Conn) {
			_, _ = b.Room("hall").Deny(b.t.Context(), "alice", time.Hour)
		},
		"forgotten": func(b *bed, _ *realtime.Conn) { time.Sleep(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				made(b)
				given = true
				alice, w := b.session("alice")
				r := &reader{t: t}
				r.join(alice.raw())
				alice.Drop()
				synctest.Wait()
				out(b, alice.conn)
				b.tell(1, 3)
				given = false
				again, _ := b.session("alice")
				again.resumes(w.Session)
				require.Equal(t, []string{notMember}, again.recovers(r.at))
				require.Empty(t, again.conn.Rooms())
				require.Empty(t, b.members("hall"))
				b.tell(4, 4)
				require.Empty(t, again.raw())
				stranger := b.openV1(realtime.Identity{UserID: "mallory"})
				stranger.hush()
				require.Equal(t, []string{notMember}, stranger.recovers(realtime.Position{Epoch: "x"}))
				require.Equal(t, 0, b.Stats().Rooms, "nothing is made for who is no member")
			})
		})
	}
}

// A client that is taken out while it is decided about it does not come back, and of a room in which
// a client is not, nobody is asked.
func TestRecoverOfARoomThatIsTaken(t *testing.T) {
	o, made := givesHall(keeping(100), always)
	var history func()
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionHistory {
			history()
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		made(b)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		r := &reader{t: t}
		r.join(alice.raw())
		asked := 0
		history = func() {
			asked++
			_, err := b.Room("hall").Remove(t.Context(), "alice")
			require.NoError(t, err)
		}
		want := []string{`{"message_type":"left","room":"hall"}`, notMember}
		require.Equal(t, want, alice.recovers(r.at))
		require.Equal(t, want[1:], alice.recovers(r.at))
		require.Equal(t, 1, asked)
		require.Empty(t, alice.conn.Rooms())
		require.Zero(t, b.Stats().Rooms)
	})
}

// One that may not read what was sent before is told of a gap.
func TestRecoverWithoutLeave(t *testing.T) {
	o, made := givesHall(keeping(100), always)
	o.Authorize = func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	bubble(t, o, func(t *testing.T, b *bed) {
		made(b)
		b.tell(1, 3)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		r := &reader{t: t}
		r.join(alice.raw())
		at := r.at
		at.Offset = 1
		r.hear(alice.recovers(at))
		require.Equal(t, []string{"unknown"}, r.gaps)
		require.EqualValues(t, 3, r.at.Offset)
		b.tell(4, 4)
		r.hear(alice.raw())
		require.Equal(t, words(4, 4), r.said())
	})
}

// What is lost is told, and all that is kept of another epoch comes.
func TestRecoverWhatIsLost(t *testing.T) {
	o, made := givesHall(keeping(3), always)
	bubble(t, o, func(t *testing.T, b *bed) {
		made(b)
		b.tell(1, 5)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		r := &reader{t: t}
		r.join(alice.raw())
		at := r.at
		at.Offset = 1
		r.hear(alice.recovers(at))
		require.Equal(t, []string{"overflow"}, r.gaps)
		r.hear(alice.recovers(realtime.Position{Epoch: "older", Offset: 9}))
		require.Equal(t, []string{"overflow", "epoch"}, r.gaps)
		require.Equal(t, words(3, 5), r.said())
	})
}

// A connection is put into more rooms than its queue takes messages, and lives.
func TestJoinedEndsNobody(t *testing.T) {
	o := keeping(10)
	o.QueueMessages, o.MaxRoomsPerConn = 16, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		alice := b.attach(transport, far, realtime.Identity{UserID: "alice"})
		for i := range 200 {
			_, err := b.Join(t.Context(), alice.conn.ID(), fmt.Sprint("r", i))
			require.NoError(t, err)
		}
		alice.unstall()
		require.Len(t, alice.raw(), 201)
		require.Nil(t, alice.ended())
	})
}

// The answer to a leave comes in front of the news of what the application does next, so that a
// client knows which of the two holds.
func TestLeaveIsAnsweredInOrder(t *testing.T) {
	o := realtime.Options{InboundRate: -1}
	b := newBed(t, o)
	transport, far := realtime.Pipe(realtime.V1)
	c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
	require.NoError(t, err)
	_, _, err = far.Read(t.Context())
	require.NoError(t, err)
	for range 300 {
		_, err := b.Join(t.Context(), c.ID(), "hall")
		require.NoError(t, err)
		_, _, err = far.Read(t.Context())
		require.NoError(t, err)
		require.NoError(t, far.Write([]byte(`{"type":"leave","id":1,"room":"hall"}`)))
		for again := false; !again; {
			again, err = b.Join(t.Context(), c.ID(), "hall")
			require.NoError(t, err)
		}
		p, _, err := far.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, `{"message_type":"reply","id":1}`, string(p))
		p, _, err = far.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, `{"message_type":"joined","room":"hall"}`, string(p))
		_, err = b.Leave(t.Context(), c.ID(), "hall")
		require.NoError(t, err)
		_, _, err = far.Read(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
}

// One that goes back gets what comes from there on, also a message to several rooms that it has been
// given already: it may not have taken it.
func TestGoingBackToAUnion(t *testing.T) {
	for _, how := range []string{"join", "recover", "leave and join"} {
		t.Run(how, func(t *testing.T) {
			puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
				alice.asks(`{"type":"join","id":2,"room":"other"}`)
				b.news(realtime.ToRoom("other"), "older")
				alice.hush()
				p.once("read", func() { // to find out where it begins
					p.once("read", func() { // to catch up
						b.news(realtime.ToRoom("hall", "other"), "both")
					})
				})
				frames := alice.asks(`{"type":"join","id":3,"room":"other","since":{"epoch":"old","offset":1}}`)
				require.Contains(t, strings.Join(frames, "\n"), `"both"`)
				if how == "leave and join" {
					alice.asks(`{"type":"leave","id":4,"room":"hall"}`)
					how = "join"
				}
				r.hear(alice.asks(`{"type":"` + how + `","id":4,"room":"hall"` + since(r.at) + `}`))
				require.Equal(t, []string{"both"}, r.said())
			})
		})
	}
}
