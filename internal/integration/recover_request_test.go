package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// recovers asks for the messages of the hall after a position.
func (c *client) recovers(at realtime.Position) []string {
	c.t.Helper()
	return c.request(`{"type":"recover","id":2,"room":"hall"` + since(at) + `}`)
}

// joinsHall puts each connection into the hall when it opens, if give returns true.
func joinsHall(o realtime.Options, give func() bool) (realtime.Options, func(b *bed)) {
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

// join takes the position from the joined frame of the hall.
func (r *streamClient) join(frames []string) {
	r.t.Helper()
	for _, text := range frames {
		if rest, ok := strings.CutPrefix(text, `{"message_type":"joined","room":"hall","content":`); ok {
			require.NoError(r.t, json.Unmarshal([]byte(strings.TrimSuffix(rest, "}")), &r.at))
			return
		}
	}
	r.t.Fatalf("not told of the hall: %v", frames)
}

// A client that the application puts into a room again continues at its position, also with a
// resumed session, without gaps and repetitions.
func TestRecoverOfAnAssignedRoom(t *testing.T) {
	for _, resumes := range []bool{false, true} {
		t.Run(fmt.Sprint("resumed ", resumes), func(t *testing.T) {
			o, made := joinsHall(keeping(100), func() bool { return !resumes })
			bubble(t, o, func(t *testing.T, b *bed) {
				made(b)
				alice, w := b.session("alice")
				if resumes {
					_, err := b.Join(t.Context(), alice.conn.ID(), "hall")
					require.NoError(t, err)
				}
				r := &streamClient{t: t}
				r.join(alice.raw())
				b.sendWords(1, 3)
				r.receive(alice.raw())
				alice.Drop()
				synctest.Wait()
				b.sendWords(4, 6)
				again, _ := b.session("alice")
				if resumes {
					again.resumes(w.Session)
				}
				b.sendWords(7, 7)
				again.discard() // ignored: the position of the joined frame is not that of the client
				r.receive(again.recovers(r.at))
				b.sendWords(8, 8)
				r.receive(again.raw())
				require.Equal(t, words(1, 8), r.takeWords())
				require.Empty(t, r.gaps)
			})
		})
	}
}

// A recover request does not make a client a member: not after it was taken out of the room while
// it was away, and not if it never was a member.
func TestRecoverNeedsMembership(t *testing.T) {
	given := true
	o, made := joinsHall(keeping(100), func() bool { return given })
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
				r := &streamClient{t: t}
				r.join(alice.raw())
				alice.Drop()
				synctest.Wait()
				out(b, alice.conn)
				b.sendWords(1, 3)
				given = false
				again, _ := b.session("alice")
				again.resumes(w.Session)
				require.Equal(t, []string{notMember}, again.recovers(r.at))
				require.Empty(t, again.conn.Rooms())
				require.Empty(t, b.members("hall"))
				b.sendWords(4, 4)
				require.Empty(t, again.raw())
				stranger := b.openV1(realtime.Identity{UserID: "mallory"})
				stranger.discard()
				require.Equal(t, []string{notMember}, stranger.recovers(realtime.Position{Epoch: "x"}))
				require.Equal(t, 0, b.Stats().Rooms, "nothing is created for a client that is not a member")
			})
		})
	}
}

// A client that is removed while its recover request is being authorised does not become a member.
// The authorizer is not asked about a room in which the client is not a member.
func TestRemoveDuringRecover(t *testing.T) {
	o, made := joinsHall(keeping(100), always)
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
		r := &streamClient{t: t}
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

// A client without permission to read history gets a gap report.
func TestRecoverWithoutPermission(t *testing.T) {
	o, made := joinsHall(keeping(100), always)
	o.Authorize = func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	bubble(t, o, func(t *testing.T, b *bed) {
		made(b)
		b.sendWords(1, 3)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		r := &streamClient{t: t}
		r.join(alice.raw())
		at := r.at
		at.Offset = 1
		r.receive(alice.recovers(at))
		require.Equal(t, []string{"unknown"}, r.gaps)
		require.EqualValues(t, 3, r.at.Offset)
		b.sendWords(4, 4)
		r.receive(alice.raw())
		require.Equal(t, words(4, 4), r.takeWords())
	})
}

// Lost messages are reported as a gap. After a change of the epoch all kept messages arrive.
func TestRecoverReportsGaps(t *testing.T) {
	o, made := joinsHall(keeping(3), always)
	bubble(t, o, func(t *testing.T, b *bed) {
		made(b)
		b.sendWords(1, 5)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		r := &streamClient{t: t}
		r.join(alice.raw())
		at := r.at
		at.Offset = 1
		r.receive(alice.recovers(at))
		require.Equal(t, []string{"overflow"}, r.gaps)
		r.receive(alice.recovers(realtime.Position{Epoch: "older", Offset: 9}))
		require.Equal(t, []string{"overflow", "epoch"}, r.gaps)
		require.Equal(t, words(3, 5), r.takeWords())
	})
}

// A client names an older position while the server reads for it from a newer one. The page that
// was read is not for that position: the client would miss what is between the two.
func TestRejoinDuringARead(t *testing.T) {
	withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient) {
		fb.withoutDelivery(func() { b.sendWords(3, 3) })
		read := make(chan struct{})
		fb.afterNext("read", func() { <-read })
		fb.Lost(hall)
		synctest.Wait()
		r.at.Offset = 0
		require.Len(t, alice.request(`{"type":"join","id":3,"room":"hall"`+since(r.at)+`}`), 1)
		close(read)
		r.receive(alice.raw())
		require.Equal(t, words(1, 3), r.takeWords())
		require.Empty(t, r.gaps)
	})
}
