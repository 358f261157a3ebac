package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// testBus notes what a node does.
type testBus struct {
	wg     sync.WaitGroup
	delay  time.Duration
	err    error
	quiet  bool // what is sent is not noted
	unsure bool // it is not known how many nodes get what is sent

	mu    sync.Mutex
	calls []string
	sent  [][]byte
}

func (b *testBus) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *testBus) take() (calls []string) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	calls, b.calls = b.calls, nil
	slices.Sort(calls)
	return calls
}

func (b *testBus) Listen(_ context.Context, subject string) error {
	time.Sleep(b.delay)
	b.note("listen %s", subject)
	return b.err
}

func (b *testBus) Unlisten(subject string) { b.note("unlisten %s", subject) }

func (b *testBus) Send(_ context.Context, data []byte, subjects ...string) (int, error) {
	if !b.quiet {
		b.note("send %v", subjects)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sent = append(b.sent, data)
	}
	if b.unsure {
		return -1, b.err
	}
	return len(subjects), b.err
}

// The engine may count a connection of a node that is gone. It does not answer, and is not missed.
func TestAskAllOfGoneNodes(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		n.Open(noEvents{}, 0)
		began := time.Now()
		_, err := n.AskAll(t.Context(), "x", nil)
		require.NoError(t, err)
		require.Equal(t, askTime, time.Since(began), "a node that has just begun is waited for")
		time.AfterFunc(time.Second, func() { // it begins meanwhile, and has not answered
			e := Envelope{From: NewID(), Kind: KindBeat}
			_, _ = n.Receive(e.append(nil))
		})
		_, err = n.AskAll(t.Context(), "x", nil)
		require.ErrorIs(t, err, broker.ErrUnavailable)
		_, err = n.AskRoom(t.Context(), "hall", "x", nil)
		require.ErrorIs(t, err, broker.ErrUnavailable, "nobody knows whether it is gone")
	})
}

// If it is not known how many nodes have got a question, nobody knows whether all have answered.
func TestAskUnsure(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		n.Open(noEvents{}, 0)
		b.unsure = true
		answers, err := n.AskRoom(t.Context(), "hall", "x", nil)
		require.Empty(t, answers)
		require.ErrorIs(t, err, broker.ErrUnavailable)
	})
}

func (b *testBus) Go(f func()) { b.wg.Go(f) }

func withNode(t *testing.T, test func(t *testing.T, n *Node, b *testBus)) {
	synctest.Test(t, func(t *testing.T) {
		b := &testBus{}
		wheel := timerwheel.New(b.wg.Go)
		n := NewNode(b, wheel)
		n.events = noEvents{}
		test(t, n, b)
		n.Close()
		n.Close()
		wheel.Close()
		b.wg.Wait()
	})
}

func TestConnIDs(t *testing.T) {
	n, other := NewNode(&testBus{}, nil), NewNode(nil, nil)
	require.NotEqual(t, n.ID, other.ID)
	first, _ := NodeOf(other.NewConn())
	second, _ := NodeOf(other.NewConn())
	require.NotEqual(t, first, second, "it is alone: all is random")
	seen := map[string]bool{}
	for range 1000 {
		conn := n.NewConn()
		require.Regexp(t, `^conn_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, conn)
		require.False(t, seen[conn])
		seen[conn] = true
		node, ok := NodeOf(conn)
		require.True(t, ok)
		require.Equal(t, n.ID, node)
	}
	for _, s := range []string{
		"", "conn_", "conn_f47ac10b-58cc-8372-a567-0e02b2c3d479", "f47ac10b-58cc-4372-a567-0e02b2c3d479",
		"conn_f47ac10b58cc4372a5670e02b2c3d479", "conn_{f47ac10b-58cc-4372-a567-0e02b2c3d479}", "conn_zzzac10b-58cc-4372-a567-0e02b2c3d479",
	} {
		_, ok := NodeOf(s)
		require.False(t, ok, s)
	}
}

func TestSubjects(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		far := NewNode(b, nil)
		for _, test := range []struct {
			t    broker.Target
			want []string
		}{
			{broker.Target{}, nil},
			{broker.Target{All: true, Rooms: []string{"a"}}, []string{"all"}},
			{broker.Target{Rooms: []string{"b", "a", "b"}, Users: []string{"u"}}, []string{"room/a", "room/b", "user/u"}},
			{broker.Target{Conns: []string{n.NewConn(), far.NewConn(), far.NewConn(), "conn"}}, []string{"node/" + far.ID.String()}},
			{broker.Target{Conns: []string{n.NewConn()}}, nil},
			{broker.Target{Rooms: slices.Repeat([]string{"a"}, maxSubjects)}, []string{"room/a"}},
			{broker.Target{Rooms: slices.Repeat([]string{"a"}, maxSubjects+1)}, []string{"all"}},
		} {
			require.Equal(t, test.want, n.subjects(&test.t))
			took := n.Send(t.Context(), &test.t, KindMessage, []byte("x"))
			require.Equal(t, len(test.want), took)
		}
		b.err = errors.New("down")
		require.Equal(t, -1, n.Send(t.Context(), &broker.Target{All: true}, KindMessage, nil))
	})
	alone := NewNode(nil, nil)
	alone.Open(nil, 0)
	require.Zero(t, alone.Send(t.Context(), &broker.Target{All: true}, KindMessage, nil))
	s := alone.EnterRoom("a")
	s.Wait(t.Context())
	s.Leave()
	require.Nil(t, alone.EnterUser("u"))
	alone.Wait(t.Context())
	alone.Close()
}

// An envelope that comes over several subjects is taken once.
func TestReceive(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		other := NewNode(b, nil)
		receive := func(i int) string {
			message, err := n.Receive(b.sent[i])
			require.NoError(t, err)
			return string(message)
		}
		other.Send(t.Context(), &broker.Target{Rooms: []string{"a"}}, KindMessage, []byte("one"))
		other.Send(t.Context(), &broker.Target{Rooms: []string{"a", "b"}}, KindMessage, []byte("two"))
		n.Send(t.Context(), &broker.Target{All: true}, KindMessage, []byte("x"))
		other.Send(t.Context(), &broker.Target{All: true}, 99, []byte("x"))
		require.Equal(t, "one", receive(0))
		require.Equal(t, "one", receive(0), "it was sent to one subject, perhaps twice")
		require.Equal(t, "two", receive(1))
		require.Empty(t, receive(1))
		require.Empty(t, receive(2), "its own")
		require.Empty(t, receive(3), "a kind of a newer node")
	})
}

func TestSeenIsBounded(t *testing.T) {
	var s seen
	for n := range uint64(3 * maxSeen) {
		require.True(t, s.firstTime(ID{}, n))
		require.False(t, s.firstTime(ID{}, n))
		require.True(t, s.firstTime(ID{1}, n))
	}
	require.Len(t, s.has, maxSeen)
	require.Len(t, s.order, maxSeen)
	require.False(t, s.firstTime(ID{}, 3*maxSeen-10))
	require.True(t, s.firstTime(ID{}, 0))
}

// A node listens while somebody is interested, and some time longer.
func TestInterest(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		n.Open(noEvents{}, 0)
		n.Wait(t.Context())
		require.Equal(t, []string{"listen all", "listen node/" + n.ID.String(), "send [all]"}, b.take())
		b.quiet = true
		a, again, u := n.EnterRoom("a"), n.EnterRoom("a"), n.EnterUser("a")
		require.Same(t, a, again)
		require.Equal(t, []string{"listen room/a", "listen user/a"}, b.take())
		a.Leave()
		time.Sleep(time.Hour)
		require.Empty(t, b.take())
		for range 3 {
			a.Leave()
			time.Sleep(idle - time.Second)
			require.Same(t, a, n.EnterRoom("a"))
		}
		time.Sleep(time.Hour)
		require.Empty(t, b.take())
		a.Leave()
		u.Leave()
		time.Sleep(idle + 2*time.Second)
		require.Equal(t, []string{"unlisten room/a", "unlisten user/a"}, b.take())
		require.NotSame(t, a, n.EnterRoom("a"))
		require.Equal(t, []string{"listen room/a"}, b.take())
		require.Len(t, n.interest.all, 3)
	})
}

// Waiting ends when the bus listens, with the context, or with the node.
func TestWait(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		b.delay, b.err = time.Minute, errors.New("down")
		s, began := n.EnterRoom("a"), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Wait(ctx)
		require.Equal(t, time.Second, time.Since(began))
		s.Leave()
		s = n.EnterRoom("a")
		s.Wait(t.Context())
		require.Equal(t, time.Minute, time.Since(began))
		other := n.EnterRoom("b")
		done := make(chan struct{})
		go func() {
			defer close(done)
			other.Wait(context.Background())
		}()
		synctest.Wait()
		n.Close()
		<-done
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func FuzzEnvelope(f *testing.F) {
	e := Envelope{From: NewID(), Number: 300, Kind: KindMessage, Data: []byte("data")}
	f.Add(e.append(nil))
	f.Add([]byte{version})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parse(data)
		if err != nil {
			return
		}
		again, err := parse(e.append(nil))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

// noEvents is a Manager that does nothing.
type noEvents struct{}

func (noEvents) Answer(context.Context, string, json.RawMessage) (any, error) { return nil, nil }
func (noEvents) Sync(context.Context)                                         {}
func (noEvents) Beat() []byte                                                 { return nil }
func (noEvents) Beaten(ID, []byte) error                                      { return nil }
func (noEvents) Part(ID, []byte) error                                        { return nil }
func (noEvents) Missed(ID)                                                    {}
func (noEvents) Turned(ID)                                                    {}

// What a node has sent before its goodbye may arrive later. It does not come back.
func TestGoodbyeIsFinal(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, _ *testBus) {
		send := func(kind Kind) {
			_, err := n.Receive((&Envelope{From: ID{1}, Kind: kind}).append(nil))
			require.NoError(t, err)
		}
		require.Equal(t, Gone, n.State(ID{1}))
		send(KindBeat)
		require.Equal(t, Alive, n.State(ID{1}))
		send(KindBye)
		send(KindBeat)
		require.Equal(t, Lost, n.State(ID{1}))
		require.Empty(t, n.Peers())
	})
}

// An answer counts once, also if it arrives twice.
func TestAnswersCountOnce(t *testing.T) {
	p := &pending{missing: map[ID]bool{{1}: true, {2}: true}, from: map[ID]bool{}, least: 2, done: make(chan struct{})}
	n := NewNode(nil, nil)
	id := n.asking.add(p)
	data := fmt.Appendf(nil, `{"id":%d,"body":1}`, id)
	require.NoError(t, n.answered(ID{1}, data))
	require.NoError(t, n.answered(ID{1}, data))
	require.Len(t, p.answers, 1)
	require.False(t, p.closed)
	require.NoError(t, n.answered(ID{2}, data))
	require.True(t, p.closed)
}

// A node asks nothing before it can hear the answers.
func TestAskWaitsForListen(t *testing.T) {
	withNode(t, func(t *testing.T, n *Node, b *testBus) {
		b.delay, b.err = 100*time.Millisecond, errors.New("x")
		began := time.Now()
		n.Open(noEvents{}, time.Second)
		_, err := n.Ask(t.Context(), ID{1}, "m", nil)
		require.ErrorIs(t, err, broker.ErrUnavailable)
		require.Equal(t, b.delay, time.Since(began))
	})
}
