package modeltest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/realtime-go/realtime"
)

// The users and rooms. Some names need escapes in JSON and in paths. The user nobody never
// connects.
var (
	users = []string{"ann", "bob", "cem", `dé"`, "nobody"}
	// visitors are the users that connect: one of them often, with several connections; "" is
	// anonymous.
	visitors = []string{"ann", "ann", "ann", "bob", "cem", `dé"`, ""}
	rooms    = []string{"general", "lobby", "a/b ü", "100%"}

	anyUser = rapid.SampledFrom(users)
	anyRoom = rapid.SampledFrom(rooms)
	anyName = rapid.SampledFrom(append([]string{""}, users...)) // of a user; "": none
	anyText = rapid.SampledFrom([]string{"hi", "", `say "ü"`, "<b>", "line\nline"})
)

// TestModel performs random steps, and after each compares everything observable with the
// prediction of the twin.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		inBubble(t, r, func() {
			w := newWorld()
			defer w.rt.Close()
			steps := w.steps()
			r.Repeat(steps)
			r.Repeat(steps) // one call performs too few steps to fill the rooms
			w.finish(r)
		})
	})
}

// steps returns the steps. Frequent steps occur twice.
func (w *world) steps() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"":          w.check,
		"open":      w.Open,
		"open too":  w.Open,
		"end":       w.End,
		"join":      w.Join,
		"join too":  w.Join,
		"join late": w.JoinLate,
		"leave":     w.Leave,
		"move":      w.RestJoin,
		"move too":  w.RestJoin,
		"retreat":   w.RestLeave,
		"chat":      w.Chat,
		"noise":     w.Noise,
		"send":      w.Send,
		"send too":  w.Send,
		"nonsense":  w.SendNonsense,
		"misplaced": w.RestNonsense,
		"pass":      w.Pass,
	}
}

// plan is what OnConnect does with the connection that is about to open.
type plan struct {
	rooms  []string // joins these rooms
	say    bool     // then sends to the first room and to the connection
	refuse bool     // then refuses the connection
	peer   *peer
}

func (p *plan) run(w *world, c *realtime.Conn) error {
	p.peer = w.twin.register(c.ID(), c.UserID())
	for _, room := range p.rooms {
		_, _ = w.rt.Join(context.Background(), c.ID(), room)
		_, _ = w.twin.join(p.peer, room)
	}
	if p.say {
		to := realtime.ToRoom(rooms[0]).Union(realtime.ToConn(c.ID()))
		_, _ = w.rt.Send(context.Background(), to, realtime.Message{})
		w.twin.send(to, envelope("chat", "", "null"))
	}
	if p.refuse {
		return realtime.ErrForbidden
	}
	return nil
}

// Open opens a connection.
func (w *world) Open(r *rapid.T) {
	user := rapid.SampledFrom(visitors).Draw(r, "user")
	w.plan = &plan{
		rooms:  rapid.SliceOfN(anyRoom, 0, 2).Draw(r, "joins"),
		say:    rapid.Bool().Draw(r, "says"),
		refuse: rapid.IntRange(0, 9).Draw(r, "refused if 9") == 9,
	}
	full := w.twin.full(user)
	transport, pipe := realtime.Pipe()
	conn, err := w.rt.Register(context.Background(), transport, realtime.Identity{UserID: user})
	if full {
		require.ErrorIs(r, err, realtime.ErrTooManyConns)
		return
	}
	p := w.plan.peer
	c := &client{
		name: fmt.Sprintf("c%d", len(w.clients)), id: p.id, conn: conn, pipe: pipe, peer: p,
	}
	w.clients = append(w.clients, c)
	go w.listen(c)
	if w.plan.refuse {
		require.ErrorIs(r, err, realtime.ErrForbidden)
		c.ended = realtime.CloseRefused
		w.twin.refuse(p)
		return
	}
	require.NoError(r, err)
	w.twin.enter(p)
}

// End ends a connection in a random way, or all connections of a user.
func (w *world) End(r *rapid.T) {
	way := rapid.SampledFrom([]string{"close", "drop", "kick", "disconnect"}).Draw(r, "way")
	if way == "disconnect" {
		w.Disconnect(r)
		return
	}
	c := w.pick(r)
	switch way {
	case "close": // the client closes the connection
		w.end(c, realtime.CloseNormal, realtime.CauseClient)
		require.NoError(r, c.pipe.Close(realtime.CloseNormal, "bye"))
	case "drop": // the connection is lost
		w.end(c, realtime.CloseLost, realtime.CauseLost)
		c.pipe.Drop()
	case "kick":
		w.end(c, 4000, realtime.CauseServer)
		require.NoError(r, c.conn.Close(4000, "kicked"))
		require.ErrorIs(r, c.conn.Close(4001, "again"), realtime.ErrClosed)
	}
}

// Disconnect closes all connections of a user. They end concurrently.
func (w *world) Disconnect(r *rapid.T) {
	user := anyUser.Draw(r, "user")
	n := 0
	for _, c := range w.open() {
		if c.peer.user == user {
			n++
			w.end(c, 4001, realtime.CauseServer)
		}
	}
	w.loose = n > 1
	got, err := w.rt.User(user).Disconnect(context.Background(), 4001, "out")
	require.NoError(r, err)
	require.Equal(r, n, got)
}

// Join adds a connection to a room.
func (w *world) Join(r *rapid.T) {
	c, room := w.pick(r), anyRoom.Draw(r, "room")
	want, wantErr := w.twin.join(c.peer, room)
	joined, err := w.rt.Join(context.Background(), c.id, room)
	require.ErrorIs(r, err, wantErr)
	require.Equal(r, want, joined)
}

// JoinLate adds a connection to a room while it ends: the hub has found the connection and calls
// Options.Room, during which the connection ends.
func (w *world) JoinLate(r *rapid.T) {
	c, room := w.pick(r), anyRoom.Draw(r, "room")
	w.meanwhile = func() {
		w.end(c, 4000, realtime.CauseServer)
		require.NoError(r, c.conn.Close(4000, "too late"))
		synctest.Wait()
	}
	if rapid.Bool().Draw(r, "by REST") {
		status, answer := w.post(r, "/connections/"+c.id+"/join", `{"room_id":`+quote(room)+`}`)
		require.Equal(r, http.StatusBadRequest, status)
		require.Equal(r, notFound, answer)
		w.twin.stats.RefusedRequest++
		return
	}
	joined, err := w.rt.Join(context.Background(), c.id, room)
	require.ErrorIs(r, err, realtime.ErrClosed)
	require.False(r, joined)
}

// Leave removes a connection from a room.
func (w *world) Leave(r *rapid.T) {
	c, room := w.pick(r), anyRoom.Draw(r, "room")
	want := w.twin.leave(c.peer, room)
	left, err := w.rt.Leave(context.Background(), c.id, room)
	require.NoError(r, err)
	require.Equal(r, want, left)
}

// RestJoin moves a connection to a room through the REST interface.
func (w *world) RestJoin(r *rapid.T) {
	c, room := w.pick(r), anyRoom.Draw(r, "room")
	status, answer := w.post(r, "/connections/"+c.id+"/join", `{"room_id":`+quote(room)+`}`)
	if err := w.twin.restJoin(c.peer, room); err != nil {
		w.twin.stats.RefusedLimit++
		require.Equal(r, http.StatusTooManyRequests, status)
		return
	}
	require.Equal(r, http.StatusOK, status)
	require.Equal(r, `{"status":"joined"}`, answer)
}

// RestLeave removes a connection from its REST room.
func (w *world) RestLeave(r *rapid.T) {
	c := w.pick(r)
	w.twin.restLeave(c.peer)
	status, answer := w.post(r, "/connections/"+c.id+"/leave", "whatever")
	require.Equal(r, http.StatusOK, status)
	require.Equal(r, `{"status":"left"}`, answer)
}

// RestNonsense makes requests that the REST interface refuses. They have no other effect.
func (w *world) RestNonsense(r *rapid.T) {
	id := "conn_unknown"
	if len(w.clients) > 0 && w.clients[0].ended != 0 {
		id = w.clients[0].id
	}
	call := rapid.SampledFrom([]string{"join", "leave"}).Draw(r, "call")
	status, answer := w.post(r, "/connections/"+id+"/"+call, `{"room_id":"lobby"}`)
	require.Equal(r, http.StatusBadRequest, status)
	require.Equal(r, notFound, answer)
	w.twin.stats.RefusedRequest++

	if len(w.open()) == 0 {
		return
	}
	body := rapid.SampledFrom([]string{"", "{", "[]", "{}", `{"room_id":""}`, `{"room_id":1}`})
	status, _ = w.post(r, "/connections/"+w.pick(r).id+"/join", body.Draw(r, "body"))
	require.Equal(r, http.StatusBadRequest, status)
	w.twin.stats.RefusedRequest++
}

// Chat writes a few chats without waiting in between.
func (w *world) Chat(r *rapid.T) {
	c := w.pick(r)
	for range rapid.IntRange(1, 3).Draw(r, "lines") {
		text := anyText.Draw(r, "text")
		target := rapid.SampledFrom(append([]string{"all", "room", "room"}, users...)).Draw(r, "to")
		w.twin.chat(c.peer, text, target)
		line := fmt.Sprintf(`{"content":%s,"more":{"content":0},"target":%s}`,
			quote(text), quote(target))
		require.NoError(r, c.pipe.Write([]byte(line)))
	}
}

// Noise writes a message that is not a chat.
func (w *world) Noise(r *rapid.T) {
	c := w.pick(r)
	text := rapid.SampledFrom([]string{
		"ping", "ping ", "pong", "", "hello", `"ping"`, "{}", `{"content":"x"}`, `{"target":"all"}`,
		`{"content":1,"target":"all"}`, `{"content":"x","target":null}`, `["x","all"]`,
	}).Draw(r, "text")
	binary := rapid.Bool().Draw(r, "binary")
	w.twin.noise(c.peer, text == "ping" && !binary)
	if binary {
		require.NoError(r, c.pipe.WriteBinary([]byte(text)))
	} else {
		require.NoError(r, c.pipe.Write([]byte(text)))
	}
}

// Send sends from the application to a random target.
func (w *world) Send(r *rapid.T) {
	to := w.target(r)
	msg := realtime.Message{
		Type:    rapid.SampledFrom([]string{"", "news", "systemnotification"}).Draw(r, "type"),
		Sender:  rapid.SampledFrom([]string{"", "ann"}).Draw(r, "sender"),
		Content: rapid.SampledFrom([]json.RawMessage{nil, []byte(`{"a": [1]}`)}).Draw(r, "content"),
	}
	at := time.Now()
	if rapid.Bool().Draw(r, "backdated") {
		at = at.Add(-90 * time.Minute)
		msg.Time = at
	}
	typ, content := msg.Type, string(msg.Content)
	if typ == "" {
		typ = "chat"
	}
	if content == "" {
		content = "null"
	}
	if slices.Contains(to.Users, "") {
		_, err := w.rt.Send(context.Background(), to, msg)
		require.ErrorIs(r, err, realtime.ErrInvalidName)
		return
	}
	want := w.twin.send(to, envelopeAt(typ, msg.Sender, content, at))
	got, err := w.rt.Send(context.Background(), to, msg)
	require.NoError(r, err)
	require.Equal(r, want, got)
}

// target draws a simple target, or with equal probability a union.
func (w *world) target(r *rapid.T) realtime.Target {
	to := [...]realtime.Target{
		realtime.ToAll(),
		realtime.ToRoom(rapid.SliceOfN(anyRoom, 1, 3).Draw(r, "to rooms")...),
		realtime.ToUser(rapid.SliceOfN(anyName, 1, 3).Draw(r, "to users")...),
		realtime.ToConn(w.some(r, "to conns")...),
	}
	kind := rapid.IntRange(0, 2*len(to)-1).Draw(r, "to")
	var sum realtime.Target
	for i, part := range to {
		if kind == i || kind >= len(to) && rapid.Bool().Draw(r, fmt.Sprint("and ", i)) {
			sum = sum.Union(part)
		}
	}
	if rapid.Bool().Draw(r, "with exceptions") {
		sum = sum.Except(w.some(r, "except conns")...).
			ExceptUser(rapid.SliceOfN(anyName, 0, 2).Draw(r, "except users")...)
	}
	return sum
}

// some draws the ids of some connections, which may have ended.
func (w *world) some(r *rapid.T, label string) (ids []string) {
	if len(w.clients) == 0 {
		return nil
	}
	for _, c := range rapid.SliceOfN(rapid.SampledFrom(w.clients), 0, 3).Draw(r, label) {
		ids = append(ids, c.id)
	}
	return ids
}

// SendNonsense calls Send with invalid messages. They are neither delivered nor counted.
func (w *world) SendNonsense(r *rapid.T) {
	send := func(m realtime.Message) error {
		_, err := w.rt.Send(context.Background(), realtime.ToAll(), m)
		return err
	}
	typ := rapid.SampledFrom([]string{"welcome", "userleft", "pong", "a\nb", strings.Repeat("x", 65)})
	require.ErrorIs(r, send(realtime.Message{Type: typ.Draw(r, "type")}), realtime.ErrInvalidName)
	require.ErrorIs(r, send(realtime.Message{Content: []byte("{")}), realtime.ErrInvalidMessage)
}

// Pass lets time pass, in which clients are pinged.
func (w *world) Pass(r *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 400_000).Draw(r, "ms")) * time.Millisecond)
}

// finish closes the Manager, and checks that nothing is left and everything is counted.
func (w *world) finish(r *rapid.T) {
	code := realtime.CloseAway
	if rapid.Bool().Draw(r, "gently") {
		code = realtime.CloseRestart
		require.NoError(r, w.rt.Shutdown(context.Background()))
	}
	require.NoError(r, w.rt.Close())
	synctest.Wait()

	s := w.rt.Stats()
	require.Zero(r, s.Conns)
	require.Zero(r, s.Users)
	require.Zero(r, s.Rooms)
	require.Equal(r, uint64(len(w.open())), s.Ended.Shutdown)
	require.Equal(r, s.Matched,
		s.Written+s.DroppedOldest+s.DroppedNewest+s.DroppedNotices+s.DroppedEphemeral+s.Lost)
	written := w.twin.stats.Written
	for _, c := range w.open() {
		c.ended, c.causes = code, []realtime.Cause{realtime.CauseShutdown}
		w.checkEnd(r, c)
		written += uint64(len(c.got))
		for _, frame := range c.got { // those that end last receive notices about those that end first
			require.Regexp(r, `^\{"message_type":"(userleft"|.*"type":"room_leave")`, frame)
		}
	}
	require.Equal(r, written, s.Written)

	_, err := w.rt.Send(context.Background(), realtime.ToAll(), realtime.Message{})
	require.ErrorIs(r, err, realtime.ErrClosed)
	transport, _ := realtime.Pipe()
	_, err = w.rt.Register(context.Background(), transport, realtime.Identity{})
	require.ErrorIs(r, err, realtime.ErrClosed)
}
