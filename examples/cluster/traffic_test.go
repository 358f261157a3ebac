package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

const room = "lobby"

// traffic is a room in which some users write, and all read and watch who is there.
type traffic struct {
	r       *rig
	users   []string
	members []*member
	writing sync.WaitGroup
	enough  chan struct{}
	writers int // the first members
	rounds  int
}

// note is the content of a message.
type note struct {
	Writer string `json:"writer"`
	Number int    `json:"number"`
}

// member is a client in the room. It says what it has seen that should not be.
type member struct {
	*client.Client
	name    string
	open    atomic.Bool
	sent    atomic.Int64 // messages that were acknowledged
	reading sync.WaitGroup

	mu     sync.Mutex
	last   map[string]int // the number of the last message, by writer
	at     realtime.Position
	total  int
	here   map[string]bool // users
	wrong  []string
	gaps   int             // that were expected
	gap    realtime.Reason // of these; empty: none is expected
	places map[string]int  // connections by node
}

// newTraffic lets users join the room. Every second one has a presence key, as a page has.
func newTraffic(r *rig, users int) *traffic {
	tr := &traffic{r: r, enough: make(chan struct{})}
	for i := range users {
		tr.users = append(tr.users, fmt.Sprint("user", i))
	}
	for i, name := range tr.users {
		m := &member{name: name, last: map[string]int{}, here: map[string]bool{}}
		url := r.url + "/ws?user_id=" + name
		if i%2 == 0 {
			url += "&presence_key=key-" + name
		}
		c, err := client.Dial(r.t.Context(), url, &client.DialOptions{
			OnState: func(s client.State) { m.open.Store(s.Phase == client.Open) }, OnPresence: m.watch,
		})
		require.NoError(r.t, err)
		m.Client = c
		require.NoError(r.t, c.JoinWith(r.t.Context(), room, client.JoinOptions{Presence: true}))
		m.reading.Go(m.read)
		r.t.Cleanup(m.end)
		tr.members = append(tr.members, m)
	}
	for _, m := range tr.members {
		await(r.t, "all members", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.here) == users
		})
	}
	return tr
}

func (m *member) end() {
	_ = m.Close()
	m.reading.Wait()
}

func (m *member) complain(format string, args ...any) {
	now := time.Now().Format("15:04:05.000 ")
	m.wrong = append(m.wrong, now+m.name+" "+fmt.Sprintf(format, args...))
}

// watch notes who is there. A user who has been there must stay.
func (m *member) watch(_ string, now client.Presence, _ client.PresenceChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	here, places, own := map[string]bool{}, map[string]int{}, ""
	for _, u := range now.Members {
		here[u.User] = true
		var info struct{ Node string }
		_ = json.Unmarshal(u.Info, &info)
		if places[info.Node]++; u.Me {
			own = info.Node
		}
	}
	for user := range m.here {
		if !here[user] {
			m.complain("at %s has seen %s leave", own, user)
		}
	}
	if now.UserCount < len(m.here) {
		m.complain("was told of %d users, not %d", now.UserCount, len(m.here))
	}
	m.here, m.places = here, places
}

// read notes what arrives.
func (m *member) read() {
	for msg, err := range m.Messages() {
		m.mu.Lock()
		gap, isGap := errors.AsType[*client.GapError](err)
		var n note
		switch {
		case isGap && gap.Reason != "" && gap.Reason == m.gap:
			m.gaps++
		case isGap && gap.Reason != "":
			m.complain("has a gap: %v", err)
		case err == nil && msg.Type == "chat" && json.Unmarshal(msg.Content, &n) == nil:
			if last := m.last[n.Writer]; n.Number != last+1 {
				m.complain("got %s %d after %d", n.Writer, n.Number, last)
			}
			if msg.Epoch == m.at.Epoch && msg.Offset <= m.at.Offset {
				m.complain("got offset %d after %d", msg.Offset, m.at.Offset)
			}
			m.last[n.Writer], m.at = n.Number, msg.Position
			m.total++
		}
		m.mu.Unlock()
	}
}

// write makes the first members write until settle.
func (tr *traffic) write(writers int, pause time.Duration) {
	tr.writers = writers
	for _, m := range tr.members[:writers] {
		tr.writing.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-tr.enough:
					return
				case <-time.After(pause):
					m.write(tr.r.t.Context(), n)
				}
			}
		})
	}
}

// write sends a message until the server has accepted it, always with the same id.
func (m *member) write(ctx context.Context, n int) {
	content, _ := json.Marshal(note{m.name, n})
	msg := realtime.Message{Type: "chat", ID: fmt.Sprint(m.name, "-", n), Content: content}
	for {
		err := m.Send(ctx, realtime.ToRoom(room), msg)
		if err == nil {
			m.sent.Add(1)
			return
		}
		if refused, ok := errors.AsType[*realtime.Error](err); !ok || refused.Code != "unavailable" {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.complain("could not send %d: %v", n, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// flow waits until each writer has sent some more messages, and all members are connected and have
// them.
func (tr *traffic) flow(more int) {
	tr.r.t.Helper()
	before := tr.sent()
	await(tr.r.t, "more messages", func() bool {
		for name, n := range tr.sent() {
			if n < before[name]+more {
				return false
			}
		}
		return true
	}, tr.hurry)
	tr.arrived(tr.sent())
}

// sent returns how many messages of each writer were acknowledged.
func (tr *traffic) sent() map[string]int {
	all := map[string]int{}
	for _, m := range tr.members[:tr.writers] {
		all[m.name] = int(m.sent.Load())
	}
	return all
}

// arrived waits until all members are connected and have these messages.
func (tr *traffic) arrived(sent map[string]int) {
	tr.r.t.Helper()
	for _, m := range tr.members {
		await(tr.r.t, "what was sent to "+m.name, func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for name, n := range sent {
				if m.last[name] < n {
					return false
				}
			}
			return m.open.Load()
		}, m.hurry)
	}
}

func (tr *traffic) hurry() {
	for _, m := range tr.members {
		m.hurry()
	}
}

// hurry ends a long wait for the next attempt to connect. A client waits longer each time if its
// connections last less than ten seconds, as here they do.
func (m *member) hurry() {
	if !m.open.Load() {
		m.Reconnect()
	}
}

// settle ends the writing, and requires that each member has got everything once, and has seen
// nobody leave.
func (tr *traffic) settle() {
	t := tr.r.t
	t.Helper()
	close(tr.enough)
	tr.writing.Wait()
	sent := tr.sent()
	tr.arrived(sent)
	total := 0
	for _, n := range sent {
		total += n
	}
	var wrong []string
	for _, m := range tr.members {
		m.mu.Lock()
		wrong = append(wrong, m.wrong...)
		if m.total != total {
			wrong = append(wrong, fmt.Sprintf("%s has %d of %d messages", m.name, m.total, total))
		}
		if got := slices.Sorted(maps.Keys(m.here)); len(got) != len(tr.users) {
			wrong = append(wrong, fmt.Sprintf("%s sees %v", m.name, got))
		}
		m.mu.Unlock()
	}
	t.Logf("%d messages to each of %d members", total, len(tr.members))
	slices.Sort(wrong)
	require.Empty(t, wrong, strings.Join(wrong, "\n"))
}

// at returns how many members are shown as connected to a node, as the first one sees them.
func (tr *traffic) at(node string) (n int) {
	m := tr.members[0]
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.places[node]
}

// gaps says that gaps with this reason may come from now on.
func (tr *traffic) gaps(reason realtime.Reason) {
	for _, m := range tr.members {
		m.mu.Lock()
		m.gap = reason
		m.mu.Unlock()
	}
}

// agree waits until each member is shown once to each, connected to a node that runs.
func (tr *traffic) agree() {
	tr.r.t.Helper()
	for _, m := range tr.members {
		await(tr.r.t, "the members as "+m.name+" sees them", func() bool {
			now, _ := m.Presence(room)
			return len(now.Members) == len(tr.users) && !slices.ContainsFunc(now.Members,
				func(u client.Member) bool { return u.Away })
		})
	}
}
