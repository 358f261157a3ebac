package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// welcomeContent is the content of a welcome.
type welcomeContent struct {
	Session string `json:"session"`
	Grace   int    `json:"resume_ms"`
}

// session connects a client of realtime.v1 and returns the content of its welcome. Frames after the
// welcome are still unread.
func (b *bed) session(user string) (*client, welcomeContent) {
	b.t.Helper()
	c := b.openV1(realtime.Identity{UserID: user})
	var f struct{ Content welcomeContent }
	frames := c.raw()
	welcome := strings.Replace(frames[0], `"timestamp":T`, `"timestamp":0`, 1)
	c.mu.Lock()
	c.frames = append(frames[1:], c.frames...)
	c.mu.Unlock()
	require.NoError(b.t, json.Unmarshal([]byte(welcome), &f))
	return c, f.Content
}

// resumes sends a resume request and returns the answer.
func (c *client) resumes(token string) string {
	c.t.Helper()
	frames := c.request(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, token))
	require.NotEmpty(c.t, frames)
	return frames[len(frames)-1]
}

const noSession = `"code":"session"`

func rooms(names ...string) string {
	list, _ := json.Marshal(names)
	return `{"message_type":"reply","id":1,"content":{"rooms":` + string(list) + `}}`
}

// resumeScene is a room with a watcher and with alice, which has a session and is in two rooms.
func resumeScene(t *testing.T, b *bed) (watcher, alice *client, token string) {
	watcher = b.open("watcher")
	alice, w := b.session("alice")
	b.join("lobby", watcher)
	alice.request(`{"type":"join","id":1,"room":"lobby"}`)
	b.join("vip", alice)
	watcher.discard()
	require.Equal(t, 15_000, w.Grace)
	return watcher, alice, w.Session
}

func TestResume(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		alice.Drop()
		time.Sleep(14 * time.Second)
		require.Empty(t, watcher.got(), "no notices")
		require.Equal(t, []string{"alice", "watcher"}, b.members("lobby"))
		require.Equal(t, 1, b.news(realtime.ToRoom("lobby"), "missed").Matched)
		require.Equal(t, 1, b.news(realtime.ToUser("alice"), "missed").Offline)
		watcher.discard()

		again, w := b.session("alice")
		require.Equal(t, rooms("lobby", "vip"), again.resumes(token))
		require.Empty(t, watcher.got())
		require.Equal(t, []string{"lobby", "vip"}, again.conn.Rooms())
		require.Equal(t, 2, b.news(realtime.ToRoom("lobby"), "back").Queued)
		require.Len(t, again.raw(), 1)
		watcher.discard()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"alice", "watcher"}, b.members("lobby"), "after the timeout of the old connection")
		require.Equal(t, uint64(1), b.Stats().Resumed)
		require.Empty(t, watcher.got())

		require.Contains(t, again.resumes(token), noSession, "the token is valid once")
		require.NotEqual(t, token, w.Session)
		again.Close(realtime.CloseNormal, "")
		require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
		require.Empty(t, b.members("vip"))
	})
}

func TestResumeTooLate(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		alice.Drop()
		time.Sleep(16 * time.Second)
		require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
		again, _ := b.session("alice")
		require.Equal(t, []string{"alice joined"}, watcher.got())
		require.Contains(t, again.resumes(token), noSession)
		require.Empty(t, again.conn.Rooms())
	})
}

// The server has not yet detected that the old connection is lost.
func TestResumeOfAnOpenConnection(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		again, _ := b.session("alice")
		require.Equal(t, rooms("lobby", "vip"), again.resumes(token))
		alice.requireEnd(realtime.CloseReplaced)
		require.Empty(t, watcher.got())
		require.Equal(t, []string{"alice", "watcher"}, b.members("lobby"))
		time.Sleep(time.Minute)
		require.Empty(t, watcher.got())
	})
}

func TestResumeRefuses(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		mallory, own := b.session("mallory")
		watcher.discard()
		for _, bad := range []string{
			token, own.Session, "", ".", "x", token + "x", token[1:], alice.conn.ID() + ".", alice.conn.ID(),
		} {
			require.Contains(t, mallory.resumes(bad), noSession, "%q", bad)
		}
		require.Nil(t, alice.ended())
		anonymous, _ := b.session("")
		require.Contains(t, anonymous.resumes(token), noSession)
		require.Empty(t, watcher.got())
	})
}

func TestResumeOfAnAnonymousSession(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		one, w := b.session("")
		one.request(`{"type":"join","id":1,"room":"lobby"}`)
		one.Drop()
		synctest.Wait()
		count, _ := b.Room("lobby").Count(t.Context())
		require.Equal(t, realtime.Count{Conns: 1}, count)
		again, _ := b.session("")
		require.Equal(t, rooms("lobby"), again.resumes(w.Session))
		count, _ = b.Room("lobby").Count(t.Context())
		require.Equal(t, realtime.Count{Conns: 1}, count)
	})
}

func TestResumeAuthorizesAnew(t *testing.T) {
	o := announced()
	var lobby bool
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Room == "lobby" && lobby {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		alice.Drop()
		synctest.Wait()
		lobby = true
		again, _ := b.session("alice")
		require.Equal(t, rooms("vip"), again.resumes(token))
		require.Equal(t, []string{"alice out lobby"}, watcher.got())
	})
}

// A connection that is closed by either side leaves no detached session.
func TestNoDetachedSessionAfterAClose(t *testing.T) {
	for name, end := range map[string]func(c *client){
		"normal":               func(c *client) { c.Close(realtime.CloseNormal, "") },
		"closed by the server": func(c *client) { _ = c.conn.Close(realtime.CloseRefused, "") },
		"broken":               func(c *client) { c.Close(realtime.CloseProtocol, "") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, announced(), func(t *testing.T, b *bed) {
				watcher, alice, token := resumeScene(t, b)
				end(alice)
				require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
				again, _ := b.session("alice")
				require.Contains(t, again.resumes(token), noSession)
			})
		})
	}
}

func TestResumeOff(t *testing.T) {
	o := announced()
	o.Timeouts.Resume = -1
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		alice, w := b.session("alice")
		require.Equal(t, welcomeContent{}, w)
		watcher.discard()
		alice.Drop()
		require.Equal(t, []string{"alice left"}, watcher.got())
	})
}

func TestDisconnectOfADetachedSession(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		alice.Drop()
		synctest.Wait()
		n, err := b.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"alice out lobby"}, watcher.got())
		_, err = b.User("alice").Disconnect(t.Context(), realtime.CloseRefused, "")
		require.NoError(t, err)
		require.Equal(t, []string{"alice left"}, watcher.got())
		again, _ := b.session("alice")
		require.Contains(t, again.resumes(token), noSession)
	})
}

// A room in which the user was denied meanwhile is not taken over.
func TestResumeAndDeny(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		_, alice, token := resumeScene(t, b)
		alice.Drop()
		synctest.Wait()
		_, err := b.Room("vip").Deny(t.Context(), "alice", time.Hour)
		require.NoError(t, err)
		again, _ := b.session("alice")
		require.Equal(t, rooms("lobby"), again.resumes(token))
	})
}

// A new connection without the token causes no notice that the user connected. After the timeout
// the user has left the rooms of the lost connection only.
func TestDetachedSessionBesideAConnection(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice, _ := resumeScene(t, b)
		alice.Drop()
		synctest.Wait()
		b.session("alice")
		require.Empty(t, watcher.got())
		time.Sleep(16 * time.Second)
		require.Equal(t, []string{"alice out lobby"}, watcher.got())
	})
}

// With history, a resumed session continues without a gap.
func TestResumeAndRecover(t *testing.T) {
	o := keeping(100)
	o.Show = realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		b.join("hall", watcher)
		alice, w := b.session("alice")
		r := &streamClient{t: t}
		r.receive(alice.request(`{"type":"join","id":1,"room":"hall"}`))
		b.sendWords(1, 3)
		r.receive(alice.raw())
		watcher.discard()
		alice.Drop()
		synctest.Wait()
		b.sendWords(4, 6)
		again, _ := b.session("alice")
		require.Equal(t, rooms("hall"), again.resumes(w.Session))
		b.sendWords(7, 7)
		again.discard() // ignored: the join is not answered
		r.receive(again.request(`{"type":"join","id":2,"room":"hall"` + since(r.at) + `}`))
		b.sendWords(8, 8)
		r.receive(again.raw())
		require.Equal(t, words(1, 8), r.takeWords())
		for _, line := range watcher.got() {
			require.NotContains(t, line, "alice")
		}
	})
}

// Connections are lost and resumed, and users are disconnected, at random. In the end no member is
// left, and the notices are consistent.
func TestResumeUnderStress(t *testing.T) {
	o := announced()
	o.Timeouts.Resume, o.Limits.ConnsPerUser = time.Millisecond, -1
	b := newBed(t, o)
	var all sync.WaitGroup
	for user := range 4 {
		for n := range 3 {
			all.Go(func() { b.connectRepeatedly(rand.New(rand.NewPCG(uint64(user), uint64(n))), fmt.Sprint("u", user)) })
		}
	}
	all.Go(func() {
		for i := range 100 {
			_, _ = b.Room("a").Remove(t.Context(), fmt.Sprint("u", i%4))
			_, _ = b.User(fmt.Sprint("u", i%4)).Disconnect(t.Context(), realtime.CloseRefused, "")
		}
	})
	all.Wait()
	require.NoError(t, b.Close())
	requireConserved(t, b.Stats())
}

// sessionToken reads the welcome and returns its token, or the one before if there is no welcome.
func (b *bed) sessionToken(far *realtime.PipeClient, before string) string {
	p, _, err := far.Read(b.t.Context())
	var f struct{ Content welcomeContent }
	if err != nil || json.Unmarshal(p, &f) != nil {
		return before
	}
	return f.Content.Session
}

// connectRepeatedly connects, joins, is lost and resumes.
func (b *bed) connectRepeatedly(dice *rand.Rand, user string) {
	token := ""
	for range 100 {
		transport, far := realtime.Pipe(realtime.V1)
		_, err := b.Register(b.t.Context(), transport, realtime.Identity{UserID: user})
		if err != nil {
			continue
		}
		last := token
		token = b.sessionToken(far, token)
		_ = far.Write(fmt.Appendf(nil, `{"type":"resume","id":1,"session":%q}`, last))
		rooms := []string{"a", "b", "c"}[:dice.IntN(4)]
		for _, room := range rooms {
			_ = far.Write(fmt.Appendf(nil, `{"type":"join","id":1,"room":%q}`, room))
		}
		for range dice.IntN(2 + len(rooms)) { // so many answers arrive in any case, or the connection ends
			_, _, _ = far.Read(b.t.Context())
		}
		if dice.IntN(4) == 0 {
			far.Close(realtime.CloseNormal, "")
			_, _, _ = far.Read(b.t.Context())
		}
		far.Drop()
	}
}

// A user that is disconnected while the connection is lost has no detached session.
func TestDisconnectWhileTheConnectionIsLost(t *testing.T) {
	o := announced()
	o.Timeouts.Resume = time.Hour
	b := newBed(t, o)
	for range 300 {
		transport, far := realtime.Pipe(realtime.V1)
		c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
		_, err = b.Join(t.Context(), c.ID(), "lobby")
		require.NoError(t, err)
		go far.Drop()
		for b.Conn(c.ID()) != nil {
			runtime.Gosched()
		}
		_, err = b.User("alice").Disconnect(t.Context(), realtime.CloseRefused, "")
		require.NoError(t, err)
		require.Empty(t, b.members("lobby"))
	}
	require.NoError(t, b.Close())
	requireConserved(t, b.Stats())
}

// A connection that is lost while it resumes a session leaves both sessions to the next.
func TestConnectionLostDuringResume(t *testing.T) {
	o := announced()
	asked := make(chan chan struct{}, 1)
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		select {
		case answer := <-asked:
			<-answer
		default:
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher, alice, token := resumeScene(t, b)
		alice.Drop()
		synctest.Wait()
		again, w := b.session("alice")
		answer := make(chan struct{})
		asked <- answer
		require.NoError(t, again.Write(fmt.Appendf(nil, `{"type":"resume","id":1,"session":%q}`, token)))
		time.Sleep(6 * time.Second) // the connection is read meanwhile
		again.Drop()
		synctest.Wait()
		close(answer)
		synctest.Wait()
		third, _ := b.session("alice")
		require.Equal(t, rooms("lobby", "vip"), third.resumes(w.Session))
		require.Empty(t, watcher.got())
		third.Close(realtime.CloseNormal, "")
		require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
	})
}

// A session that is resumed over a connection that is lost as well stays away for the others.
func TestAwayWhileAResumeIsLost(t *testing.T) {
	o := showing()
	asked := make(chan chan struct{}, 1)
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		select {
		case answer := <-asked:
			<-answer
		default:
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		alice, w := b.session("alice")
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		alice.Drop()
		synctest.Wait()
		again, next := b.session("alice")
		answer := make(chan struct{})
		asked <- answer
		require.NoError(t, again.Write(fmt.Appendf(nil, `{"type":"resume","id":1,"session":%q}`, w.Session)))
		time.Sleep(6 * time.Second) // the connection is read meanwhile
		again.Drop()
		time.Sleep(4 * time.Second)
		require.True(t, entryOf(f.see(bob), "alice").Away)
		close(answer)
		time.Sleep(time.Second)
		require.True(t, entryOf(f.see(bob), "alice").Away)
		third, _ := b.session("alice")
		require.Equal(t, rooms("hall"), third.resumes(next.Session))
		time.Sleep(time.Second)
		require.False(t, entryOf(f.see(bob), "alice").Away)
	})
}

// An exception of the old connection also excludes the connection that has resumed its session:
// from kept messages, and from messages of a handler that knows the old id.
func TestResumeAndExcept(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		bob := b.open("bob")
		b.join("hall", bob)
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		first := alice.conn.ID()
		ids := []string{first}
		res, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{Content: json.RawMessage(`"seen"`)})
		require.NoError(t, err)
		for i := range 3 {
			alice.Drop()
			synctest.Wait()
			b.news(realtime.ToRoom("hall").Except(first), fmt.Sprint("kept ", i))
			b.news(realtime.ToRoom("hall").Except(ids[len(ids)-1]), fmt.Sprint("kept too ", i))
			next, its := b.session("alice")
			require.NotContains(t, next.resumes(w.Session), noSession)
			alice, w = next, its
			got := alice.request(fmt.Sprintf(`{"type":"join","id":2,"room":"hall","since":{"epoch":%q,"offset":%d}}`,
				res.Position.Epoch, res.Position.Offset))
			require.NotContains(t, strings.Join(got, "\n"), "kept")
			b.news(realtime.ToRoom("hall").Except(ids...), fmt.Sprint("live ", i))
			require.Empty(t, alice.raw())
			page := alice.request(`{"type":"history","id":3,"room":"hall"}`)
			require.NotContains(t, page[len(page)-1], "live")
			ids = append(ids, alice.conn.ID())
		}
		b.news(realtime.ToRoom("hall").Except("conn_of somebody else"), "for all")
		require.Contains(t, strings.Join(alice.raw(), "\n"), "for all")
	})
}
