package jsclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/examples/internal/flaky"
	"github.com/realtime-go/realtime/internal/long"
)

const (
	crowdPeople  = 20
	crowdProxies = 4
	crowdGrace   = 2 * time.Second
	crowdTimeout = 5 * time.Minute
)

var crowdRooms = []string{"lobby", "board", "attic", "hall"}

// TestPresenceStress tests that what pages know of a room is exactly what the server shows, a second
// after the last of many joins, states, values, interruptions, reloads and kicks, and that the changes
// that onPresence reports lead there one after another. The pages are clients in Node, see crowd.mjs.
func TestPresenceStress(t *testing.T) {
	node := browser.Node(t)
	s := startCrowd(t, node)
	for end := time.Now().Add(time.Duration(long.Of(4, 30, 120)) * time.Second); time.Now().Before(end); {
		s.disturb()
		time.Sleep(time.Duration(s.random.Int64N(int64(60 * time.Millisecond)))) // between two changes
	}
	for _, p := range s.proxies {
		p.Restore()
	}
	s.tell("stop")
	done := s.read(1)[0].Stopped
	for _, action := range []string{"join", "leave", "state", "value", "reload"} {
		require.Positive(t, done[action], action)
	}
	require.Eventually(t, s.nobodyIsAway, time.Minute, 10*time.Millisecond)
	time.Sleep(time.Second) // the second of quiet that is tested
	members, counts := s.shown()
	s.tell("report")
	reports := s.read(4*crowdPeople + 4)
	fresh := map[string]crowdReport{}
	for _, r := range reports[4*crowdPeople:] {
		fresh[r.Room] = r
	}
	watchers := 0
	for _, r := range reports[:4*crowdPeople] {
		if s.check(r, members[r.Room], counts[r.Room], fresh[r.Room].Values) {
			watchers++
		}
	}
	require.True(t, s.read(1)[0].End)
	t.Logf("%d folds, of the pages: %v, of the server: %v", watchers, done, s.done)
	require.Greater(t, watchers, crowdPeople/2)
	require.NotEmpty(t, fresh["lobby"].Values)
}

// crowd is a server with pages.
type crowd struct {
	t       *testing.T
	rt      *realtime.Manager
	proxies []*flaky.Proxy
	random  *rand.Rand
	done    map[string]int
	in      io.Writer
	out     *json.Decoder
}

// crowdReport is a line of the process: what a page knows of a room.
type crowdReport struct {
	N            int
	Room         string
	Members      []crowdMember
	Applied      []string // keys
	Users, Conns int
	State        any
	KnowsState   bool
	Values       map[string]crowdValue
	Stopped      map[string]int // how often something was done
	End          bool
}

// crowdMember is a member of a room.
type crowdMember struct {
	Key, User   string
	Info, State any
	Away, Me    bool
}

// crowdValue is the last value of a key. It is old if the page may have left the room since.
type crowdValue struct {
	Content any
	Old     bool
}

func startCrowd(t *testing.T, node []string) *crowd {
	s := &crowd{t: t, random: rand.New(rand.NewPCG(1, 0)), done: map[string]int{}}
	s.rt = realtime.New(&realtime.Options{
		Authenticate: withNumber, Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
		Timeouts: realtime.Timeouts{Resume: crowdGrace},
	})
	server := httptest.NewServer(s.rt)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = s.rt.Close() })
	args := append(node[1:], "crowd.mjs", fmt.Sprint(crowdPeople))
	for range crowdProxies {
		p := flaky.New(t, strings.TrimPrefix(server.URL, "http://"))
		s.proxies = append(s.proxies, p)
		args = append(args, "ws://"+p.Addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), crowdTimeout)
	cmd := exec.CommandContext(ctx, node[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	s.in, s.out = in, json.NewDecoder(out)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		defer cancel()
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &stderr)
		}
	})
	return s
}

// withNumber tells others the number of each person.
func withNumber(r *http.Request) (realtime.Identity, error) {
	id, err := realtime.InsecureQueryUser(r)
	id.Info = json.RawMessage(`{"n":` + r.URL.Query().Get("n") + `}`)
	return id, err
}

func (s *crowd) tell(line string) {
	_, err := fmt.Fprintln(s.in, line)
	require.NoError(s.t, err)
}

// read reads lines of the process.
func (s *crowd) read(n int) []crowdReport {
	s.t.Helper()
	lines := make([]crowdReport, n)
	for i := range lines {
		require.NoError(s.t, s.out.Decode(&lines[i]))
	}
	return lines
}

// disturb does something at random: in the network, or as the application.
func (s *crowd) disturb() {
	ctx := s.t.Context()
	user := s.rt.User(fmt.Sprint("user", s.random.IntN(crowdPeople/2)))
	room := s.rt.Room(crowdRooms[s.random.IntN(3)])
	conns := slices.Collect(s.rt.LocalConns())
	if len(conns) == 0 {
		return
	}
	c := conns[s.random.IntN(len(conns))]
	what := "value"
	switch k := s.random.IntN(100); {
	case k < 30:
		s.setValue(crowdRooms[s.random.IntN(4)])
	case k < 34:
		what = "burst" // the server forgets the earlier changes
		for room := range slices.Values(crowdRooms) {
			for range 200 {
				s.setValue(room)
			}
		}
	case k < 50:
		what = "added"
		_, _ = c.Join(ctx, "hall")
	case k < 65:
		what = "info"
		_ = c.SetInfo(map[string]any{"n": numberOf(c.Identity().Info), "more": s.random.IntN(1000)})
	case k < 75:
		what = "removed"
		_, _ = room.Remove(ctx, user.ID())
	case k < 80:
		what = "denied"
		_, _ = room.Deny(ctx, user.ID(), 200*time.Millisecond)
	case k < 84:
		what = "disconnected"
		_, _ = user.Disconnect(ctx, 4100, "")
	case k < 86:
		what = "stopped"
		_, _ = user.Disconnect(ctx, realtime.CloseNormal, "")
	default:
		what = s.interrupt(s.proxies[s.random.IntN(crowdProxies)])
	}
	s.done[what]++
}

// setValue sets or removes a value of a room.
func (s *crowd) setValue(room string) {
	content := json.RawMessage("null")
	if s.random.IntN(3) > 0 {
		content = fmt.Appendf(nil, "%d", -s.random.IntN(1_000_000))
	}
	_, err := s.rt.Send(s.t.Context(), realtime.ToRoom(room), realtime.Message{
		Type: "shape", Latest: fmt.Sprint("k", s.random.IntN(12)), Content: content,
	})
	require.NoError(s.t, err)
}

// interrupt cuts the connections of a part of the pages, or stops them for a time. What is on the way
// then may be lost.
func (s *crowd) interrupt(p *flaky.Proxy) string {
	switch s.random.IntN(6) {
	case 0: // for longer than sessions are kept
		p.Drop()
		p.Cut()
		time.AfterFunc(crowdGrace+500*time.Millisecond, p.Restore)
		return "long cut"
	case 1, 2:
		p.Drop()
		time.AfterFunc(time.Duration(s.random.Int64N(int64(300*time.Millisecond))), func() {
			p.Cut()
			p.Restore()
		})
		return "loss"
	default:
		p.Cut()
		return "cut"
	}
}

// shown returns the members of each room, and how many there are.
func (s *crowd) shown() (map[string][]realtime.Member, map[string]realtime.Count) {
	members, counts := map[string][]realtime.Member{}, map[string]realtime.Count{}
	for _, room := range crowdRooms {
		var err error
		members[room], err = s.rt.Room(room).Members(s.t.Context())
		require.NoError(s.t, err)
		counts[room], err = s.rt.Room(room).Count(s.t.Context())
		require.NoError(s.t, err)
	}
	return members, counts
}

func (s *crowd) nobodyIsAway() bool {
	members, _ := s.shown()
	return !slices.ContainsFunc(slices.Concat(slices.Collect(maps.Values(members))...),
		func(m realtime.Member) bool { return m.Away })
}

// check compares what a page knows of a room with what the server shows, and reports whether it
// watches the room. fresh are the values of a page that has just joined it.
func (s *crowd) check(
	r crowdReport, members []realtime.Member, count realtime.Count, fresh map[string]crowdValue,
) (watches bool) {
	t, who := s.t, fmt.Sprintf("page of person %d, %s", r.N, r.Room)
	if slices.ContainsFunc(members, func(m realtime.Member) bool { return numberOf(m.Info) == r.N }) {
		for key, v := range fresh {
			require.Equal(t, v.Content, r.Values[key].Content, "%s: %s", who, key)
		}
		for key, v := range r.Values {
			require.True(t, fresh[key].Content != nil || v.Old || v.Content == nil, "%s: %s was removed", who, key)
		}
	}
	if r.Members == nil {
		return false
	}
	want, mine := []crowdMember{}, 0
	for _, m := range members {
		me := numberOf(m.Info) == r.N
		if me {
			mine++
			if r.KnowsState {
				require.Equal(t, r.State, decoded(m.State), "own state: %s", who)
			}
		}
		want = append(want, crowdMember{m.Key, m.User, decoded(m.Info), decoded(m.State), false, me})
	}
	require.Equal(t, want, r.Members, who)
	require.Equal(t, 1, mine, who)
	require.Equal(t, count, realtime.Count{Users: r.Users, Conns: r.Conns}, who)
	keys := []string{}
	for _, m := range want {
		keys = append(keys, m.Key)
	}
	slices.Sort(keys)
	require.Equal(t, keys, r.Applied, who)
	return true
}

func decoded(p json.RawMessage) (v any) {
	_ = json.Unmarshal(p, &v) // nothing is nil
	return v
}

// numberOf returns the number of the person with this info.
func numberOf(info json.RawMessage) int {
	is := struct{ N int }{-1}
	_ = json.Unmarshal(info, &is)
	return is.N
}
