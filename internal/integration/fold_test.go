package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// entry is an entry of a room, as a client gets it.
type entry struct {
	User  string          `json:"user"`
	Info  json.RawMessage `json:"info"`
	State json.RawMessage `json:"state"`
	Away  bool            `json:"away"`
}

// stateFrame is any frame that a fold understands.
type stateFrame struct {
	Type    string            `json:"message_type"`
	Room    string            `json:"room"`
	Prev    uint64            `json:"prev"`
	Version uint64            `json:"ver"`
	Show    string            `json:"show"`
	Users   int               `json:"user_count"`
	Conns   int               `json:"connection_count"`
	Members map[string]*entry `json:"members"`
	Latest  string            `json:"latest"`
	Keys    []string          `json:"keys"`
	Content json.RawMessage   `json:"content"`
}

// fold is what a client knows of the state of a room, by the rules of docs/PROTOCOL.md.
type fold struct {
	recounts bool // a number may change and change back between two frames

	t             *testing.T
	room          string
	version       uint64
	show          string
	users, conns  int
	entries       map[string]entry
	values        map[string]string
	valuesVersion uint64

	snapshots, differences, counts int
	frames                         uint64 // state frames of any room
	log                            []string
}

func newFold(t *testing.T, room string) *fold {
	return &fold{t: t, room: room, entries: map[string]entry{}, values: map[string]string{}}
}

// add applies a frame.
func (f *fold) add(raw []byte) {
	var m stateFrame
	if raw[0] != '{' { // binary, or pong
		return
	}
	raw = bytes.Replace(raw, []byte(`"timestamp":T`), []byte(`"timestamp":0`), 1) // see request
	require.NoError(f.t, json.Unmarshal(raw, &m), "%s", raw)
	if m.Type == "presence" || m.Type == "latest" || m.Latest != "" {
		f.frames++
	}
	if m.Room != f.room {
		return
	}
	switch {
	case m.Type == "presence":
		f.presence(&m)
	case m.Type == "latest" && m.Version > 0:
		require.Greater(f.t, m.Version, f.valuesVersion)
		f.valuesVersion = m.Version
	case m.Type == "latest":
		f.valuesVersion = 0
		old := f.values
		f.valuesVersion = 0
		f.values = map[string]string{}
		for _, key := range m.Keys {
			if v, ok := old[key]; ok {
				f.values[key] = v
			}
		}
	case m.Latest != "":
		require.Zero(f.t, m.Version)
		if string(m.Content) == "null" {
			delete(f.values, m.Latest)
		} else {
			f.values[m.Latest] = string(m.Content)
		}
	}
}

func (f *fold) presence(m *stateFrame) {
	switch {
	case m.Prev == 0:
		f.entries = map[string]entry{}
		f.show = m.Show
		if f.snapshots++; m.Show == "count" {
			f.counts++
		}
		require.Contains(f.t, []string{"count", "members"}, m.Show)
	default:
		f.differences++
		require.Equal(f.t, f.version, m.Prev, "a difference for another version")
		changed := len(m.Members) > 0 || f.users != m.Users || f.conns != m.Conns
		require.True(f.t, changed || f.recounts, "nothing has changed")
	}
	f.version, f.users, f.conns = m.Version, m.Users, m.Conns
	var log []string
	for key, e := range m.Members {
		old, had := f.entries[key]
		switch {
		case e != nil:
			if !had {
				log = append(log, "new "+e.User)
			}
			f.entries[key] = *e
		case had: // or it came and went since the last frame
			log = append(log, "gone "+old.User)
			delete(f.entries, key)
		}
	}
	slices.Sort(log) // a frame has no order
	f.log = append(f.log, log...)
}

// all applies the frames that a client has got.
func (f *fold) all(c *client) *fold {
	f.t.Helper()
	for _, raw := range c.raw() {
		f.add([]byte(raw))
	}
	return f
}

// see applies the frames that a client has got, and tells the server so.
func (f *fold) see(c *client) *fold {
	f.t.Helper()
	f.all(c)
	_ = c.Write(fmt.Appendf(nil, `{"type":"seen","frames":%d}`, f.frames))
	f.all(c)
	return f
}

// same requires that a fold is what the server shows.
func (f *fold) same(m *realtime.Manager) {
	f.t.Helper()
	members, err := m.Room(f.room).Members(f.t.Context())
	require.NoError(f.t, err)
	want := map[string]entry{}
	for _, e := range members {
		want[e.Key] = entry{e.User, e.Info, e.State, false}
		if f.entries[e.Key].Away { // clients are told later, but not of one that is back
			require.True(f.t, e.Away, e.Key)
		}
	}
	got := maps.Clone(f.entries)
	for key, e := range got {
		e.Away = false
		got[key] = e
	}
	require.Equal(f.t, want, got)
	count, err := m.Room(f.room).Count(f.t.Context())
	require.NoError(f.t, err)
	require.Equal(f.t, count, realtime.Count{Users: f.users, Conns: f.conns})
}

// watch joins a room and asks for presence. It returns what the client knows.
func (b *bed) watch(c *client, room, more string) *fold {
	b.t.Helper()
	f := newFold(b.t, room)
	for _, raw := range c.request(fmt.Sprintf(`{"type":"join","id":1,"room":%q,"presence":true%s}`, room, more)) {
		require.False(b.t, bytes.Contains([]byte(raw), []byte(`"error"`)), raw)
		f.add([]byte(raw))
	}
	return f
}
