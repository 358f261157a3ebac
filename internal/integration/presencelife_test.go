package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// watching is a client that watches the hall over several connections, and what it knows.
type watching struct {
	b      *bed
	dice   *rand.Rand
	user   string
	key    string
	page   *tab  // nil while it is away
	fold   *fold // of the presence
	token  string
	steady bool // it is not kicked, and only reloads and resumes
	joined bool
}

// connect connects, and continues in one of the ways that a client has.
func (w *watching) connect(reloaded bool) {
	w.page = w.b.openTab(w.user, w.key)
	w.fold.frames, w.fold.valuesVersion = 0, 0
	version := "true"
	if w.fold.version != 0 && !reloaded {
		version = fmt.Sprint(w.fold.version)
	}
	if reloaded {
		w.fold = newFold(w.b.t, "hall")
	} else if w.token != "" && (w.steady || w.dice.IntN(3) > 0) {
		w.page.send(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, w.token))
	}
	w.token = w.page.session
	if w.joined || w.dice.IntN(2) == 0 {
		w.join(version)
	}
}

func (w *watching) join(version string) {
	w.joined = true
	w.page.send(fmt.Sprintf(`{"type":"join","id":2,"room":"hall","presence":%s,"state":{"of":%q}}`, version, w.user))
	w.take()
}

// take applies what has arrived, and says so.
func (w *watching) take() {
	if w.page == nil {
		return
	}
	for _, raw := range w.page.frames() {
		if strings.HasPrefix(raw, `{"message_type":"left"`) || strings.Contains(raw, `"code":"denied"`) {
			w.joined = false
			w.fold.version, w.fold.entries, w.fold.valuesVersion = 0, map[string]entry{}, 0
		}
		w.fold.add([]byte(raw))
	}
	if !w.page.isOpen() {
		w.page = nil
		return
	}
	w.page.seen(w.fold)
}

// step does one thing.
func (w *watching) step() {
	b, ctx := w.b, context.Background()
	w.take()
	if w.page == nil {
		w.connect(false)
		return
	}
	what := w.dice.IntN(20)
	if w.steady && what > 11 {
		what = 6
	}
	switch {
	case what < 2:
		w.page.reload()
		w.page = nil
		w.fold.version = 0
		w.connect(true)
	case what < 4:
		w.page.cut()
		w.page = nil
	case what < 8:
		w.page.send(fmt.Sprintf(`{"type":"state","room":"hall","state":%d}`, w.dice.IntN(1000)))
	case what < 10:
		if c := b.Conn(w.page.id); c != nil {
			_ = c.SetInfo(w.dice.IntN(1000))
		}
	case what < 12:
		_ = second(b.value(realtime.ToRoom("hall"), fmt.Sprint(w.dice.IntN(5)), fmt.Sprint(w.dice.IntN(1000))))
	case what < 14:
		w.page.send(`{"type":"leave","id":3,"room":"hall"}`)
		w.take()
		w.joined, w.fold.version, w.fold.entries, w.fold.valuesVersion = false, 0, map[string]entry{}, 0
	case what < 17:
		if !w.joined {
			w.join("true")
		}
	case what == 17:
		_ = second(b.Room("hall").Remove(ctx, w.user))
	case what == 18:
		_ = second(b.Room("hall").Deny(ctx, w.user, 300*time.Millisecond))
	default:
		_ = second(b.User(w.user).Disconnect(ctx, realtime.CloseRestart, ""))
	}
}

// Whatever happens, each client knows in the end exactly what the room shows. Nobody sees a steady
// client go.
func TestPresenceLife(t *testing.T) {
	for seed := range long.Of(2, 4, 40) {
		o := tabs(showing())
		o.Limits.ConnsPerUser = 1000
		bubble(t, o, func(t *testing.T, b *bed) {
			n, rounds := long.Of(40, 200, 200), long.Of(60, 300, 300)
			dice := rand.New(rand.NewPCG(uint64(seed), 18))
			var all []*watching
			for i := range n {
				w := &watching{b: b, dice: dice, user: fmt.Sprint("user", i), fold: newFold(t, "hall")}
				if w.steady = i%4 == 0; w.steady || i%2 == 0 {
					w.key = fmt.Sprint("key", i)
				}
				all = append(all, w)
				w.connect(false)
				if w.steady && !w.joined {
					w.join("true")
				}
			}
			observer := b.openV1(realtime.Identity{UserID: "observer"})
			f := b.watch(observer, "hall", "")
			time.Sleep(time.Second)
			f.see(observer).log = nil
			for range rounds { // 100 ms each
				for range n / 8 {
					all[dice.IntN(n)].step()
				}
				time.Sleep(100 * time.Millisecond)
				f.see(observer)
			}
			for _, w := range all {
				if w.take(); w.page == nil {
					w.connect(false)
				}
			}
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				for _, w := range all {
					w.take()
				}
			}
			f.see(observer).same(b.Manager)
			watchers := 0
			for _, w := range all {
				if w.joined {
					w.fold.same(b.Manager)
					watchers++
				}
			}
			require.Greater(t, watchers, n/4)
			for _, w := range all {
				if w.steady {
					require.NotContains(t, f.log, "new "+w.user)
					require.NotContains(t, f.log, "gone "+w.user)
				}
			}
			for _, w := range all {
				w.page.cut()
			}
			observer.Drop()
			time.Sleep(16 * time.Second)
			synctest.Wait()
			require.Zero(t, b.Stats().Rooms)
			require.Zero(t, b.Stats().MemoryBytes)
		})
	}
}

// Shutdown and Close end a room in which much happens. Nobody is told that all others go.
func TestEndDuringFlushes(t *testing.T) {
	for _, end := range []func(b *bed) error{
		func(b *bed) error { return b.Shutdown(b.t.Context()) }, func(b *bed) error { return b.Close() },
	} {
		o := showing()
		bubble(t, o, func(t *testing.T, b *bed) {
			var all []*client
			for i := range 50 {
				c := b.openV1(realtime.Identity{UserID: fmt.Sprint("user", i)})
				c.request(`{"type":"join","id":1,"room":"hall","presence":true,"state":1}`)
				all = append(all, c)
			}
			for range 10 {
				for _, c := range all {
					require.NoError(t, c.conn.SetInfo(rand.IntN(1000)))
					b.mustValue(realtime.ToRoom("hall"), "k", fmt.Sprint(rand.IntN(1000)))
					b.mustValue(realtime.ToConn(c.conn.ID()), "k", fmt.Sprint(rand.IntN(1000)))
				}
				time.Sleep(15 * time.Millisecond)
			}
			for _, c := range all {
				c.discard()
			}
			require.NoError(t, end(b))
			for _, c := range all {
				gone := 0
				for _, raw := range c.raw() {
					gone += strings.Count(raw, `":null`)
				}
				require.Zero(t, gone)
			}
			require.Zero(t, b.Stats().MemoryBytes)
			require.ErrorIs(t, second(b.value(realtime.ToRoom("hall"), "k", "1")), realtime.ErrClosed)
			require.ErrorIs(t, all[0].conn.SetInfo(1), realtime.ErrClosed)
		})
	}
}
