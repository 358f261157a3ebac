package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// fillRoom puts n users with long names into a room, who speak the plain protocol or another one.
func (b *bed) fillRoom(room string, n int, protocols ...string) {
	for i := range n {
		transport, far := realtime.Pipe(protocols...)
		b.t.Cleanup(far.Drop)
		user := fmt.Sprint(strings.Repeat("n", 200), i)
		c, err := b.Register(b.t.Context(), transport, realtime.Identity{UserID: user})
		require.NoError(b.t, err)
		_, err = b.Join(b.t.Context(), c.ID(), room)
		require.NoError(b.t, err)
	}
}

// fillValues makes a room with n values.
func (b *bed) fillValues(room string, n, size int) {
	b.join(room, b.openV1(realtime.Identity{UserID: "keeper"}))
	for i := range n {
		b.mustValue(realtime.ToRoom(room), fmt.Sprint(i), `"`+strings.Repeat("x", size)+`"`)
	}
}

// A request counts against the limits of its client by the work that it causes: authorisations,
// bytes and receivers.
func TestRequestCosts(t *testing.T) {
	history := keeping(1000)
	history.Limits.InboundBytes = 100 << 10
	told := realtime.Options{Show: realtime.ShowMembers, Limits: realtime.Limits{InboundFanout: 100, ConnsPerUser: 3}}
	plenty := realtime.Options{Show: realtime.ShowMembers, Limits: realtime.Limits{InboundBytes: 100 << 10, Conns: -1}}
	asked := realtime.Options{
		Limits: realtime.Limits{InboundRate: 100}, // more than the requests, fewer than their decisions
		Revalidate: func(context.Context, *realtime.Conn, string) (realtime.Identity, error) {
			return realtime.Identity{UserID: "alice"}, nil
		},
	}
	var version uint64 // of the presence that alice has
	for name, test := range map[string]struct {
		options  realtime.Options
		setUp    func(b *bed, alice *client)
		requests []string
	}{
		"presence": {plenty, func(b *bed, _ *client) { b.fillRoom("hall", 500, realtime.V1) },
			[]string{`{"type":"presence","id":1,"room":"hall"}`}},
		"history": {history, func(b *bed, _ *client) { b.sendWords(1, 1000) },
			[]string{`{"type":"history","id":1,"room":"hall","limit":1000}`}},
		"join with history": {history, func(b *bed, _ *client) { b.sendWords(1, 1000) },
			[]string{`{"type":"join","id":1,"room":"hall","history":1000}`}},
		"join with since": {history, func(b *bed, _ *client) { b.sendWords(1, 1000) },
			[]string{`{"type":"join","id":1,"room":"hall","since":{"epoch":"EPOCH","offset":0}}`}},
		"join and leave": {told, func(b *bed, _ *client) { b.fillRoom("hall", 300) },
			[]string{`{"type":"join","id":1,"room":"hall"}`, `{"type":"leave","id":1,"room":"hall"}`}},
		"join and leave a room that others watch": {told, func(b *bed, _ *client) {
			for i := range 60 {
				b.watch(b.openV1(realtime.Identity{UserID: fmt.Sprint("watcher", i)}), "hall", "")
			}
		}, []string{`{"type":"join","id":1,"room":"hall"}`, `{"type":"leave","id":1,"room":"hall"}`}},
		"state": {told, func(b *bed, alice *client) {
			for i := range 60 {
				b.watch(b.openV1(realtime.Identity{UserID: fmt.Sprint("watcher", i)}), "hall", "")
			}
			alice.request(`{"type":"join","id":1,"room":"hall"}`)
		}, []string{`{"type":"state","id":1,"room":"hall","state":1}`, `{"type":"state","id":1,"room":"hall","state":2}`}},
		"join with large values": {plenty, func(b *bed, _ *client) { b.fillValues("hall", 1000, 200) },
			[]string{`{"type":"join","id":1,"room":"hall","latest":0}`}},
		"join with many values": {told, func(b *bed, _ *client) { b.fillValues("hall", 50, 1) },
			[]string{`{"type":"join","id":1,"room":"hall","latest":0}`}},
		"recover with large values": {plenty, func(b *bed, alice *client) {
			b.fillValues("hall", 1000, 200)
			b.join("hall", alice)
		}, []string{`{"type":"recover","id":1,"room":"hall","latest":0}`}},
		"recover with many values": {told, func(b *bed, alice *client) {
			b.fillValues("hall", 50, 1)
			b.join("hall", alice)
		}, []string{`{"type":"recover","id":1,"room":"hall","latest":0}`}},
		"join with an old presence": {plenty, func(b *bed, alice *client) {
			b.fillRoom("hall", 500, realtime.V1)
			f := b.watch(alice, "hall", "")
			time.Sleep(time.Second)
			version = f.all(alice).version
			for c := range b.LocalConns() {
				require.NoError(b.t, c.SetInfo(1))
			}
		}, []string{`{"type":"join","id":1,"room":"hall","presence":VERSION}`}},
		"refresh": {asked, func(b *bed, alice *client) {
			for i := range 20 {
				alice.request(fmt.Sprintf(`{"type":"join","id":1,"room":"room %d"}`, i))
				time.Sleep(2 * time.Second)
			}
		}, []string{`{"type":"refresh","id":1,"token":"t"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Timeouts.Ping = -1 // the members do not read
			bubble(t, test.options, func(t *testing.T, b *bed) {
				alice := b.openV1(realtime.Identity{UserID: "alice"})
				test.setUp(b, alice)
				alice.discard()
				before := b.Stats().Throttled
				epoch := ""
				if page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{}); err == nil {
					epoch = page.Top.Epoch
				}
				const rounds = 60
				began := time.Now()
				for range rounds {
					for _, request := range test.requests {
						request = strings.Replace(request, "EPOCH", epoch, 1)
						request = strings.Replace(request, "VERSION", fmt.Sprint(version), 1)
						require.NoError(t, alice.Write([]byte(request)))
					}
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(time.Second)
				require.NotZero(t, b.Stats().Throttled-before, "%v", time.Since(began))
			})
		})
	}
}

// A resume costs as many messages as it causes authorisations.
func TestResumeCosts(t *testing.T) {
	const n = 60
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: 5}}, func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		for i := range n {
			alice.request(fmt.Sprintf(`{"type":"join","id":1,"room":"room %d"}`, i))
			time.Sleep(time.Second)
		}
		alice.Drop()
		synctest.Wait()
		again, _ := b.session("alice")
		again.resumes(w.Session)
		require.Len(t, again.conn.Rooms(), n)
		require.Zero(t, b.Stats().Throttled)
		require.Empty(t, again.request("ping"), "it has to wait")
		require.EqualValues(t, 1, b.Stats().Throttled)
		time.Sleep(n * time.Second)
		require.Equal(t, []string{"pong"}, again.raw())
	})
}

// A join with history counts like a message to as many receivers, because it can be repeated.
func TestHistoryAtJoinCountsInFanout(t *testing.T) {
	o := keeping(100)
	o.Limits.InboundFanout = 10
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 100)
		alice, r := b.follow("alice", `,"history":100`)
		require.Equal(t, words(1, 100), r.takeWords())
		start := time.Now()
		for range 3 {
			require.NoError(t, alice.Write([]byte(`{"type":"join","id":1,"room":"hall","history":100}`)))
		}
		for answers := 0; answers < 3; time.Sleep(time.Second) {
			for _, frame := range alice.raw() {
				if strings.Contains(frame, `"reply"`) {
					answers++
				}
			}
		}
		require.Greater(t, time.Since(start), 5*time.Second)
	})
}
