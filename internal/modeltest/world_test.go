package modeltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/realtime-go/realtime"
)

// world is a Manager and its twin, which both go through the same steps.
type world struct {
	rt      *realtime.Manager
	api     http.Handler
	twin    twin
	clients []*client // in the order of opening, including those that have ended
	plan    *plan     // for the connection that is about to open

	meanwhile func() // called during the next join

	// loose means that several goroutines send notices in this step, in any order.
	loose bool

	mu     sync.Mutex
	causes map[string][]realtime.Cause // by connection id: the causes passed to OnDisconnect
}

// client is the client side of a connection.
type client struct {
	name           string // replaces the id, which differs from run to run
	id             string
	conn           *realtime.Conn
	pipe           *realtime.PipeClient
	peer           *peer
	got            []string           // the frames of this step
	contradictions []string           // notices that were not true when they were received
	end            error              // the error of Read
	ended          realtime.CloseCode // the expected close code; 0 while the connection is open
	causes         []realtime.Cause   // the expected causes of OnDisconnect
}

// GoString is used by rapid to print the client that it has drawn.
func (c *client) GoString() string { return c.name + "(" + c.peer.user + ")" }

// forbidden reports whether the Authorizer of the world refuses a target.
func forbidden(user string, to realtime.Target) bool {
	return user == "" && slices.Contains(to.Users, "bob")
}

func newWorld() *world {
	w := &world{causes: make(map[string][]realtime.Cause)}
	w.rt = realtime.New(&realtime.Options{
		Show: realtime.ShowMembers, AnnounceUsers: true,
		Limits: realtime.Limits{Conns: maxConns, ConnsPerUser: maxDevices, RoomsPerConn: maxRooms},

		Logger:    slog.New(slog.DiscardHandler),
		OnConnect: func(_ context.Context, c *realtime.Conn) error { return w.plan.run(w, c) },
		OnDisconnect: func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.causes[c.ID()] = append(w.causes[c.ID()], why.Cause)
		},
		Room: func(string) realtime.RoomOptions {
			if f := w.meanwhile; f != nil {
				w.meanwhile = nil
				f()
			}
			return realtime.RoomOptions{}
		},
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if forbidden(c.UserID(), a.Target) {
				return realtime.ErrForbidden
			}
			return nil
		},
	})
	w.api = w.rt.API(realtime.InsecureAllowRequests)
	return w
}

// inBubble runs f in a bubble. rapid ends a run with a panic, and distinguishes runs by the place
// of the panic. So the panic is raised again outside of the bubble, each kind at its own place.
func inBubble(t *testing.T, r *rapid.T, f func()) {
	var thrown any
	var stack []byte
	synctest.Test(t, func(*testing.T) {
		defer func() {
			thrown, stack = recover(), debug.Stack()
		}()
		f()
	})
	switch {
	case thrown == nil:
	case r.Failed():
		r.FailNow()
	case fmt.Sprintf("%T", thrown) == "rapid.invalidData":
		r.SkipNow()
	default:
		r.Logf("%v\n%s", thrown, stack)
		panic(thrown)
	}
}

// listen reads the frames of c until its connection ends.
func (w *world) listen(c *client) {
	for {
		frame, _, err := c.pipe.Read(context.Background())
		if err != nil {
			c.end = err
			return
		}
		c.got = append(c.got, string(frame))
		w.checkUserLeft(c, string(frame))
	}
}

// checkUserLeft checks, when c receives the notice that a user has left, that the user is no longer
// connected and in no room.
func (w *world) checkUserLeft(c *client, frame string) {
	i := slices.IndexFunc(users, func(u string) bool { return frame == userLeftFrame(u) })
	if i < 0 {
		return
	}
	if n, _ := w.rt.User(users[i]).Count(context.Background()); n > 0 {
		c.contradictions = append(c.contradictions, users[i]+" has left but is connected")
	}
	for _, room := range rooms {
		members, _ := w.rt.Room(room).Users(context.Background())
		if slices.Contains(members, users[i]) {
			c.contradictions = append(c.contradictions, users[i]+" has left but is in "+room)
		}
	}
}

// open returns the clients whose connections are open.
func (w *world) open() (open []*client) {
	for _, c := range w.clients {
		if c.ended == 0 {
			open = append(open, c)
		}
	}
	return open
}

// pick draws an open connection, or skips the step if there is none.
func (w *world) pick(r *rapid.T) *client {
	open := w.open()
	if len(open) == 0 {
		r.Skip("no connection is open")
	}
	return rapid.SampledFrom(open).Draw(r, "conn")
}

// end ends c in the twin, and records the code and the cause that are expected.
func (w *world) end(c *client, code realtime.CloseCode, cause realtime.Cause) {
	c.ended, c.causes = code, []realtime.Cause{cause}
	w.twin.end(c.peer, cause)
}

// post calls the REST interface.
func (w *world) post(r *rapid.T, path, body string) (status int, answer string) {
	return w.call(r, http.MethodPost, path, body)
}

func (w *world) call(r *rapid.T, method, path, body string) (status int, answer string) {
	req, err := http.NewRequest(method, path, strings.NewReader(body))
	require.NoError(r, err)
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, req)
	return rec.Code, strings.TrimSpace(rec.Body.String())
}

// check waits until all goroutines are blocked, and compares the Manager with the twin.
func (w *world) check(r *rapid.T) {
	synctest.Wait()
	for _, c := range w.clients {
		w.checkFrames(r, c)
		w.checkEnd(r, c)
	}
	w.checkConns(r)
	for _, room := range rooms {
		w.checkRoom(r, room)
	}
	for _, user := range users {
		n, err := w.rt.User(user).Count(context.Background())
		require.NoError(r, err)
		require.Equal(r, len(w.twin.devices(user, "")), n, user)
		require.ElementsMatch(r, ids(w.twin.devices(user, "")),
			connIDs(slices.Collect(w.rt.User(user).LocalConns())))
	}
	w.checkStats(r)
	w.loose = false
}

func (w *world) checkFrames(r *rapid.T, c *client) {
	want, got := c.peer.expected, c.got
	c.peer.expected, c.got = nil, nil
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], c.id, c.name)
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], c.id, c.name)
	}
	if w.loose { // rooms are left in any order, but before the user's notice
		slices.Sort(want[:max(0, len(want)-1)])
		slices.Sort(got[:max(0, len(got)-1)])
	}
	require.Equal(r, want, got, "frames of %#v", c)
	require.Empty(r, c.contradictions, "%#v", c)
}

func (w *world) checkEnd(r *rapid.T, c *client) {
	require.Equal(r, c.causes, w.causes[c.id], "%#v", c)
	if c.ended == 0 {
		require.NoError(r, c.end, "%#v", c)
		return
	}
	end, ok := errors.AsType[*realtime.CloseError](c.end)
	require.True(r, ok, "end of %#v: %v", c, c.end)
	require.Equal(r, c.ended, end.Code, "%#v", c)
	require.Nil(r, w.rt.Conn(c.id), "%#v", c)
}

func (w *world) checkConns(r *rapid.T) {
	require.ElementsMatch(r, ids(w.twin.peers), connIDs(slices.Collect(w.rt.LocalConns())))
	for _, c := range w.open() {
		require.Same(r, c.conn, w.rt.Conn(c.id))
		require.Equal(r, append([]string{}, c.peer.rooms...), c.conn.Rooms(), "rooms of %#v", c)
	}
	var local []string
	for _, room := range rooms {
		if _, conns := w.twin.members(room); conns > 0 {
			local = append(local, room)
		}
	}
	slices.Sort(local)
	require.Equal(r, local, slices.Collect(w.rt.LocalRooms()))
}

func (w *world) checkRoom(r *rapid.T, room string) {
	want, conns := w.twin.members(room)
	got, err := w.rt.Room(room).Users(context.Background())
	require.NoError(r, err)
	require.Equal(r, want, got, "members of %s", room)
	count, err := w.rt.Room(room).Count(context.Background())
	require.NoError(r, err)
	require.Equal(r, realtime.Count{Users: len(want), Conns: conns}, count, "count of %s", room)
	require.Len(r, slices.Collect(w.rt.Room(room).LocalConns()), conns)

	status, answer := w.call(r, http.MethodGet, "/api/rooms/"+url.PathEscape(room)+"/users", "")
	require.Equal(r, http.StatusOK, status)
	require.JSONEq(r, usersBody(room, want), answer)
}

// entryBytes returns the memory of what the rooms show of their members.
func (w *world) entryBytes(r *rapid.T) (total int64) {
	for room := range w.rt.LocalRooms() {
		members, err := w.rt.Room(room).Members(context.Background())
		require.NoError(r, err)
		for _, m := range members {
			total += int64(256 + len(m.User) + len(m.Key))
		}
	}
	return total
}

func (w *world) checkStats(r *rapid.T) {
	want, got := w.twin.snapshot(), w.rt.Stats()
	require.True(r, want.Updated.Equal(got.Updated), "%v and %v", want.Updated, got.Updated)
	got.Updated = want.Updated
	want.MemoryBytes = w.entryBytes(r)
	require.Equal(r, want, got)

	status, answer := w.call(r, http.MethodGet, "/stats", "")
	require.Equal(r, http.StatusOK, status)
	require.JSONEq(r, statsBody(want), answer)
}

func ids(peers []*peer) (ids []string) {
	for _, p := range peers {
		ids = append(ids, p.id)
	}
	return ids
}

func connIDs(conns []*realtime.Conn) (ids []string) {
	for _, c := range conns {
		ids = append(ids, c.ID())
	}
	return ids
}
