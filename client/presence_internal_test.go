package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// presenceTest is a client in the lobby that has asked for presence, without a connection.
type presenceTest struct {
	*testing.T
	members *members
}

func newPresenceTest(t *testing.T) *presenceTest {
	q := newRequests(&DialOptions{PendingRequests: 10, PendingBytes: 1000})
	p := &presenceTest{T: t, members: &members{requests: q, stream: newStream(1000)}}
	q.begin(1000, nil)
	p.members.beginJoin("lobby", JoinOptions{Presence: true}, nil).
		answered(result{content: json.RawMessage(`{"show":"members","key":"me"}`)})
	return p
}

func (p *presenceTest) frame(format string, args ...any) {
	p.members.receivePresence(fmt.Appendf(nil, format, args...))
}

// requested returns the request that was sent since the last call, or an empty string.
func (p *presenceTest) requested() (text string) {
	for f, ok := p.members.requests.next(); ok; f, ok = p.members.requests.next() {
		require.Empty(p, text)
		text = string(f.data)
	}
	return text
}

// TestPresenceFollowsAModel tests that presence is what a server shows after any sequence of
// frames, that the changes lead from each value to the next one, and that no value changes later.
func TestPresenceFollowsAModel(t *testing.T) {
	type kept struct {
		now  Presence
		text string
	}
	for seed := range uint64(50) {
		dice, p := rand.New(rand.NewPCG(seed, 0)), newPresenceTest(t)
		model, version := map[string]*entry{}, uint64(0)
		var all []kept
		shown := map[string]Member{}
		for range 100 {
			before := maps.Clone(model)
			changed := changeModel(dice, model)
			prev := fmt.Sprintf(`"prev":%d,`, version)
			if version++; version == 1 || dice.IntN(10) == 0 {
				prev, changed = "", model
			}
			members, _ := json.Marshal(changed)
			p.frame(`{"room":"lobby",%s"ver":%d,"show":"members","user_count":%d,"connection_count":%d,`+
				`"members":%s}`, prev, version, len(model), len(model), members)
			events := p.members.takePresence()
			if version > 1 && modelText(before) == modelText(model) {
				require.Empty(t, events)
			}
			for _, e := range events {
				applyChange(t, shown, e.change)
				text, _ := json.Marshal(e.now)
				all = append(all, kept{e.now, string(text)})
			}
			now, ok := p.members.presenceOf("lobby")
			require.True(t, ok)
			requireModel(t, model, now)
			require.Equal(t, slices.SortedFunc(maps.Values(shown), compareMembers), append([]Member(nil), now.Members...))
		}
		for _, k := range all {
			text, _ := json.Marshal(k.now)
			require.Equal(t, k.text, string(text), "a value has changed")
		}
		require.Empty(t, p.requested())
	}
}

// changeModel changes entries, and returns the difference.
func changeModel(dice *rand.Rand, model map[string]*entry) (changed map[string]*entry) {
	changed = map[string]*entry{}
	for range dice.IntN(4) {
		key := fmt.Sprint("k", dice.IntN(8))
		switch _, exists := model[key]; {
		case exists && dice.IntN(2) == 0:
			delete(model, key)
			changed[key] = nil
		default:
			e := &entry{Away: dice.IntN(4) == 0, Info: json.RawMessage("null"), State: json.RawMessage("null")}
			if n := dice.IntN(4); n > 0 {
				e.User = fmt.Sprint("u", n)
				e.State = fmt.Append(nil, dice.IntN(3))
			}
			model[key], changed[key] = e, e
		}
	}
	return changed
}

func modelText(model map[string]*entry) string {
	text, _ := json.Marshal(model) // with sorted keys
	return string(text)
}

func requireModel(t *testing.T, model map[string]*entry, now Presence) {
	t.Helper()
	require.Equal(t, []any{ShowMembers, len(model), len(model)}, []any{now.Show, now.UserCount, now.ConnCount})
	require.Len(t, now.Members, len(model))
	require.True(t, slices.IsSortedFunc(now.Members, compareMembers))
	for _, m := range now.Members {
		require.Equal(t, model[m.Key].member(m.Key), m)
	}
}

// applyChange applies a change to the members that were shown.
func applyChange(t *testing.T, shown map[string]Member, c PresenceChange) {
	t.Helper()
	for _, m := range c.Left {
		require.Equal(t, shown[m.Key], m)
		delete(shown, m.Key)
	}
	for _, m := range c.Updated {
		require.Contains(t, shown, m.Key)
		shown[m.Key] = m
	}
	for _, m := range c.Joined {
		require.NotContains(t, shown, m.Key)
		shown[m.Key] = m
	}
}

// TestPresenceChange tests that what happens to a member is one of joined, left and updated, and that
// a key may belong to another user later.
func TestPresenceChange(t *testing.T) {
	p := newPresenceTest(t)
	keys := func(members []Member) (keys []string) {
		for _, m := range members {
			keys = append(keys, m.Key)
		}
		return keys
	}
	for _, test := range []struct {
		frame                 string
		joined, left, updated []string
		silent                bool
	}{
		{frame: `"ver":1,"show":"members","members":{"b":{"user":"x"},"me":{"user":"y"}}`, joined: []string{"b", "me"}},
		{frame: `"ver":2,"members":{"me":{"user":"y"},"b":{"user":"x","info":null}}`, silent: true},
		{frame: `"prev":2,"ver":3,"members":{"b":{"user":"x","state":1}}`, updated: []string{"b"}},
		{frame: `"prev":3,"ver":4`, silent: true},
		{frame: `"prev":4,"ver":5,"user_count":7`},
		{frame: `"prev":5,"ver":6,"members":{"a":{"user":"x"},"b":{"user":"x","state":1,"away":true},"me":null,"?":null}`,
			joined: []string{"a"}, left: []string{"me"}, updated: []string{"b"}},
		{frame: `"ver":7,"show":"count","user_count":7,"connection_count":900`, left: []string{"a", "b"}},
		{frame: `"ver":8,"show":"members","members":{"":{},"a":{"away":true}}`, joined: []string{"a"}},
		{frame: `"prev":8,"ver":9,"members":{"a":{"user":"z"}}`, joined: []string{"a"}, left: []string{"a"}},
		{frame: `"ver":10,"members":{"a":{"user":"x"}}`, joined: []string{"a"}, left: []string{"a"}},
		{frame: `"show":"nothing","user_count":0,"connection_count":0`, left: []string{"a"}},
		{frame: `"ver":11,"show":"members","members":{"a":{"user":"x"}}`, joined: []string{"a"}},
	} {
		p.frame(`{"room":"lobby",%s}`, test.frame)
		events := p.members.takePresence()
		if test.silent {
			require.Empty(t, events, test.frame)
			continue
		}
		require.Len(t, events, 1, test.frame)
		c := events[0].change
		require.Equal(t, [][]string{test.joined, test.left, test.updated},
			[][]string{keys(c.Joined), keys(c.Left), keys(c.Updated)}, test.frame)
		now, _ := p.members.presenceOf("lobby")
		require.Equal(t, events[0].now, now)
		for _, m := range now.Members {
			require.Equal(t, m.Key == "me", m.Me)
		}
	}
	require.Empty(t, p.requested())
}

// TestPresentUsers tests that members are grouped by user.
func TestPresentUsers(t *testing.T) {
	a1 := Member{Key: "1", User: "a", Info: json.RawMessage("1"), Away: true}
	a2 := Member{Key: "2", User: "a", Info: json.RawMessage("2"), Away: true, Me: true}
	b := Member{Key: "0", User: "b"}
	x, y := Member{Key: "7"}, Member{Key: "8", Away: true}
	b2 := Member{Key: "9", User: "b", Away: true}
	require.Equal(t, []PresentUser{
		{Members: []Member{x}},
		{Members: []Member{y}, Away: true},
		{User: "a", Info: a1.Info, Members: []Member{a1, a2}, Away: true, Me: true},
		{User: "b", Members: []Member{b, b2}},
	}, Presence{Members: []Member{x, y, a1, a2, b, b2}}.Users())
	require.Empty(t, Presence{}.Users())
}

// TestPresenceIsBounded tests that no server can make the presence of a room grow without end.
func TestPresenceIsBounded(t *testing.T) {
	p := newPresenceTest(t)
	p.frame(`{"room":"lobby","ver":1,"show":"members","members":{"a":{}}}`)
	state := make([]byte, maxPresenceBytes)
	for i := range state {
		state[i] = '1'
	}
	p.frame(`{"room":"lobby","prev":1,"ver":2,"members":{"b":{"state":%s}}}`, state)
	now, _ := p.members.presenceOf("lobby")
	require.Len(t, now.Members, 1)
	require.Empty(t, p.requested())
	p.frame(`{"room":"lobby","prev":2,"ver":3}`)
	require.Contains(t, p.requested(), `"presence":true`)
}

// TestHostilePresence tests that frames that break the rules change nothing.
func TestHostilePresence(t *testing.T) {
	p := newPresenceTest(t)
	p.frame(`{"room":"lobby","ver":1,"show":"members","members":{"a":{}}}`)
	before, _ := p.members.presenceOf("lobby")
	p.members.takePresence()
	for _, s := range []string{
		``, `null`, `[]`, `{}`, `{"room":"lobby"}`, `{"room":7,"ver":2}`, `{"room":"elsewhere","ver":2}`,
		`{"room":"lobby","ver":0}`, `{"room":"lobby","ver":-1}`, `{"room":"lobby","ver":9007199254740992}`,
		`{"room":"lobby","ver":1e400}`, `{"room":"lobby","ver":2,"prev":"1"}`, `{"room":"lobby","ver":2,"prev":-1}`,
		`{"room":"lobby","ver":2,"prev":1,"members":[]}`, `{"room":"lobby","ver":2,"prev":1,"members":{"a":7}}`,
		`{"room":"lobby","ver":2,"prev":1,"members":{7:{}}}`, `{"room":"lobby","ver":2,"prev":1,"members":{"a":{"user":7}}}`,
		`{"room":"lobby","ver":2,"prev":1,"user_count":1e30}`, `{"room":"lobby","ver":2,"prev":1,"show":[]}`,
		`{"room":"lobby","ver":2,"prev":1,"members":{"b":{}}`,
	} {
		p.frame("%s", s)
		now, _ := p.members.presenceOf("lobby")
		require.Equal(t, before, now, s)
		require.Empty(t, p.members.takePresence(), s)
		require.Empty(t, p.requested(), s)
	}
	p.frame(`{"room":"lobby","prev":1,"ver":2,"user_count":-5,"members":{"":{},"x":null}}`)
	now, _ := p.members.presenceOf("lobby")
	require.Equal(t, before, now, "a count is not negative, and an entry has a key")
}
