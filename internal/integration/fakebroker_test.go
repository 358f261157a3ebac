package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// puppet is a broker that a test holds up, and that can keep to itself what it should deliver.
type puppet struct {
	*memory.Broker
	sink broker.Sink

	mu     sync.Mutex
	mute   bool
	before map[string]func() // a method is called
	after  map[string]func() // it has done its work, and has not returned
	page   func(*broker.Page)
}

func newPuppet() *puppet {
	return &puppet{
		Broker: memory.New(nil), before: map[string]func(){}, after: map[string]func(){},
	}
}

func (p *puppet) Open(ctx context.Context, s broker.Sink) error {
	p.sink = s
	return p.Broker.Open(ctx, p)
}

func (p *puppet) Deliver(pub broker.Publication) {
	p.mu.Lock()
	mute := p.mute
	p.mu.Unlock()
	if !mute {
		p.sink.Deliver(pub)
	}
}

func (p *puppet) Lost(stream string) { p.sink.Lost(stream) }

// silently runs f, and nothing is delivered meanwhile.
func (p *puppet) silently(f func()) {
	p.quiet(true)
	defer p.quiet(false)
	f()
}

func (p *puppet) quiet(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = yes
}

// once has f called the next time that a method has done its work.
func (p *puppet) once(method string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after[method] = func() {
		p.mu.Lock()
		delete(p.after, method)
		p.mu.Unlock()
		f()
	}
}

// hold makes a method wait until release is called.
func (p *puppet) hold(method string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.before[method] = func() { <-held }
	return func() {
		close(held)
		synctest.Wait()
	}
}

func (p *puppet) play(hooks map[string]func(), method string) {
	p.mu.Lock()
	f := hooks[method]
	p.mu.Unlock()
	if f != nil {
		f()
	}
}

func (p *puppet) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	p.play(p.before, "subscribe")
	return p.Broker.Subscribe(ctx, stream)
}

func (p *puppet) Unsubscribe(ctx context.Context, stream string) error {
	p.play(p.before, "unsubscribe")
	return p.Broker.Unsubscribe(ctx, stream)
}

func (p *puppet) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	page, err := p.Broker.Read(ctx, stream, q)
	if p.page != nil {
		p.page(&page)
	}
	p.play(p.after, "read")
	return page, err
}

// puppetry runs a test with alice, who is in the hall and has heard two messages.
func puppetry(t *testing.T, test func(t *testing.T, b *bed, p *puppet, alice *client, r *reader)) {
	o := keeping(100)
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.tell(1, 2)
		r.hear(alice.raw())
		require.Equal(t, words(1, 2), r.said())
		test(t, b, p, alice, r)
	})
}

var hall = broker.RoomStream("hall")

// What comes live while a member reads what was lost is not lost for that.
func TestLossAndDelivery(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		p.silently(func() { b.tell(3, 3) })
		p.once("read", func() { b.tell(4, 4) })
		p.Lost(hall)
		r.hear(alice.raw())
		require.Equal(t, words(3, 4), r.said())
	})
}

// A second loss while a member looks into the first is looked into too.
func TestLossDuringALoss(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		p.once("read", func() {
			p.silently(func() { b.tell(3, 3) })
			p.Lost(hall)
		})
		p.Lost(hall)
		r.hear(alice.raw())
		require.Equal(t, words(3, 3), r.said())
	})
}

// A broker that has forgotten the stream is asked once, and the client is told once.
func TestLossOfEverything(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, _ *reader) {
		reads := 0
		p.page = func(page *broker.Page) {
			reads++
			require.Less(t, reads, 10)
			*page = broker.Page{}
		}
		p.Lost(hall)
		frames := alice.raw()
		require.Len(t, frames, 1)
		require.Contains(t, frames[0], `"reason":"unknown"`)
	})
}

// Nobody was there to look into a loss when it was reported.
func TestLossDuringAJoin(t *testing.T) {
	o := keeping(100)
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		p.once("read", func() {
			p.silently(func() { b.tell(1, 1) })
			p.Lost(hall)
		})
		_, r := b.follow("alice", `,"history":5`)
		require.Equal(t, words(1, 1), r.said())
	})
}

func TestLossDuringOnConnect(t *testing.T) {
	o := inboxes(100)
	p := newPuppet()
	o.Broker = p
	var lose func()
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		lose()
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		lose = func() {
			p.silently(func() { b.write("bob", 1, 1) })
			p.Lost(broker.InboxStream("bob"))
		}
		require.Equal(t, words(1, 1), b.check(realtime.Identity{UserID: "bob"}).said())
	})
}

// The last member has left, and somebody comes back before the broker knows: what is delivered to
// the old subscription is not the end of the stream for the new one.
func TestJoinBetweenTwoSubscriptions(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		unsubscribed, subscribed := p.hold("unsubscribe"), p.hold("subscribe")
		alice.asks(`{"type":"leave","id":2,"room":"hall"}`)
		r.at.Offset = 3
		require.Empty(t, alice.asks(`{"type":"join","id":3,"room":"hall"`+since(r.at)+`}`))
		b.tell(3, 3)
		unsubscribed()
		b.tell(4, 4)
		subscribed()
		r.hear(alice.raw())
		require.Equal(t, words(4, 4), r.said())
	})
}

// lateBroker takes what its publisher has given up.
type lateBroker struct {
	*memory.Broker
	work sync.WaitGroup
}

func (l *lateBroker) Publish(
	_ context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	l.work.Go(func() { _, _ = l.Broker.Publish(context.Background(), parts...) })
	return nil, context.DeadlineExceeded
}

// Meant for the race detector.
func TestSendThatGaveUp(t *testing.T) {
	o := keeping(100)
	l := &lateBroker{Broker: memory.New(nil)}
	o.Broker = l
	bubble(t, o, func(t *testing.T, b *bed) {
		b.follow("alice", "")
		for range 20 {
			_, err := b.Send(t.Context(), realtime.ToRoom("hall", "vip").Union(realtime.ToConn("x")),
				realtime.Message{Type: "news"})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		l.work.Wait()
	})
}

// What has come while a member read the end of the history is more than its queue takes at once:
// that is no reason to end it, also where being slow is.
func TestCatchingUpEndsNobody(t *testing.T) {
	o := keeping(1000)
	o.QueueMessages, o.Slow = 16, realtime.SlowDisconnect
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		b.tell(1, 3)
		p.once("read", func() { // of the join
			p.once("read", func() {
				b.tell(4, 4)
				p.once("read", func() { b.tell(5, 40) })
			})
		})
		alice, r := b.follow("alice", `,"history":3`)
		require.Nil(t, alice.ended())
		require.Equal(t, words(1, 40), r.said())
	})
}

// stuckBroker knows nobody's place in an inbox, for as long as it may.
type stuckBroker struct{ *memory.Broker }

func (s stuckBroker) Cursor(ctx context.Context, _, _ string) (broker.Position, error) {
	<-ctx.Done()
	return broker.Position{}, context.Cause(ctx)
}

func TestCloseWhileAnInboxIsOpened(t *testing.T) {
	o := inboxes(100)
	o.Broker = stuckBroker{memory.New(nil)}
	bubble(t, o, func(t *testing.T, b *bed) {
		var bob *client
		done := make(chan struct{})
		go func() {
			defer close(done)
			bob = b.dial("bob")
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, b.Close())
		require.LessOrEqual(t, time.Since(start), time.Second)
		<-done
		require.ErrorIs(t, bob.err, realtime.ErrClosed)
		bob.requireEnd(realtime.CloseAway)
		require.Zero(t, b.Stats().Failed)
	})
}

// hangingBroker does not come to an end by itself.
type hangingBroker struct{ *memory.Broker }

func (b hangingBroker) Close(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestCloseOfABrokerThatHangs(t *testing.T) {
	for name, end := range map[string]func(b *bed) error{
		"Close":    func(b *bed) error { return b.Close() },
		"Shutdown": func(b *bed) error { return b.Shutdown(b.t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := keeping(10)
			o.Broker = hangingBroker{memory.New(nil)}
			bubble(t, o, func(t *testing.T, b *bed) {
				synctest.Wait()
				start := time.Now()
				require.NoError(t, end(b))
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

// anew loses what is kept of a stream that is subscribed to, which begins with another epoch.
func (p *puppet) anew(t *testing.T, stream string) {
	p.Broker = memory.New(nil)
	require.NoError(t, p.Broker.Open(t.Context(), p))
	_, err := p.Broker.Subscribe(t.Context(), stream)
	require.NoError(t, err)
}

// An inbox that has lost what was kept begins anew for who is connected, as for who comes.
func TestInboxWithAnotherEpoch(t *testing.T) {
	for _, proto := range [][]string{{realtime.V1}, nil} {
		o := inboxes(100)
		p := newPuppet()
		o.Broker = p
		bubble(t, o, func(t *testing.T, b *bed) {
			transport, far := realtime.Pipe(proto...)
			bob := b.attach(transport, far, realtime.Identity{UserID: "bob"})
			bob.unstall()
			b.write("bob", 1, 2)
			bob.hush()
			stream := broker.InboxStream("bob")
			p.silently(func() {
				p.anew(t, stream)
				b.write("bob", 3, 4)
			})
			p.Lost(stream)
			b.write("bob", 5, 5)
			var said []string
			frames := bob.raw()
			for _, frame := range frames {
				var f keptFrame
				require.NoError(t, json.Unmarshal([]byte(frame), &f))
				if f.Type == "news" {
					said = append(said, strings.Trim(string(f.Content), `"`))
				}
			}
			require.Equal(t, words(3, 5), said)
			if proto != nil {
				require.Contains(t, frames[0], `"offset":0`)
				require.Contains(t, frames[0], `"reason":"epoch"`)
			}
		})
	}
}

// What was kept by a process with larger queues, which this one cannot give to anybody.
func TestKeptButTooLarge(t *testing.T) {
	o := keeping(100)
	o.QueueBytes = 8 << 10
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		b.tell(1, 1)
		_, err := p.Broker.Publish(t.Context(), broker.Publication{
			Stream: hall, Target: broker.Target{Rooms: []string{"hall"}}, Keep: broker.Retention{Messages: 100, Bytes: 1 << 20},
			Message: broker.Message{Type: "news", Content: []byte(`"` + strings.Repeat("x", 8<<10) + `"`)},
		})
		require.NoError(t, err)
		b.tell(3, 3)
		reads := 0
		p.page = func(*broker.Page) {
			if reads++; reads > 20 {
				panic("it reads without end")
			}
		}
		_, r := b.follow("alice", `,"history":5`)
		require.Equal(t, []string{"m1", "m3"}, r.said())
		require.Equal(t, []span{{1, 2}}, r.spans, "and is told so")
	})
}

// A room that has lost what was kept begins anew, and all that it keeps since comes: to who is
// connected, to who joins again where it was, and to who has resumed its session.
func TestRoomWithAnotherEpoch(t *testing.T) {
	for name, how := range map[string]func(b *bed, alice *client, join, session string) *client{
		"live": func(_ *bed, alice *client, _, _ string) *client { return alice },
		"joins again": func(b *bed, alice *client, join, _ string) *client {
			require.NoError(b.t, alice.Write([]byte(join)))
			return alice
		},
		"comes again": func(b *bed, alice *client, join, _ string) *client {
			alice.Drop()
			again := b.openV1(realtime.Identity{UserID: "alice"})
			again.hush()
			require.NoError(b.t, again.Write([]byte(join)))
			return again
		},
		"resumes": func(b *bed, alice *client, join, session string) *client {
			alice.Drop()
			synctest.Wait()
			again, _ := b.session("alice")
			require.Contains(b.t, again.resumes(session), "hall")
			require.NoError(b.t, again.Write([]byte(join)))
			return again
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet()
			o := keeping(100)
			o.Broker = p
			bubble(t, o, func(t *testing.T, b *bed) {
				alice, w := b.session("alice")
				r := &reader{t: t}
				r.hear(alice.asks(`{"type":"join","id":1,"room":"hall"}`))
				b.tell(1, 2)
				r.hear(alice.raw())
				join := `{"type":"join","id":2,"room":"hall"` + since(r.at) + `}`
				p.silently(func() {
					p.anew(t, broker.RoomStream("hall"))
					b.tell(3, 4)
				})
				p.Lost(broker.RoomStream("hall"))
				alice = how(b, alice, join, w.Session)
				b.tell(5, 5)
				var said, reasons []string
				for _, text := range alice.raw() {
					var f keptFrame
					require.NoError(t, json.Unmarshal([]byte(text), &f))
					var a joinAnswer
					_ = json.Unmarshal(f.Content, &a)
					if reason := f.Reason + a.Reason; reason != "" {
						reasons = append(reasons, reason)
						said = nil // what came before the answer comes again
					}
					if f.Type == "news" {
						said = append(said, strings.Trim(string(f.Content), `"`))
					}
				}
				require.Equal(t, words(3, 5), said)
				require.Contains(t, reasons, "epoch")
			})
		})
	}
}

func (p *puppet) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	p.play(p.before, "ack")
	return p.Broker.Ack(ctx, stream, reader, at)
}

// A plain client is lost while the broker notes what it has taken: what was not written by then comes
// again.
func TestPlainClientIsLostDuringAnAcknowledgement(t *testing.T) {
	o := inboxes(100)
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.stalled("bob")
		release := p.hold("ack")
		b.write("bob", 1, 1)
		synctest.Wait()
		var all []string
		for i := range 5 {
			word := fmt.Sprint(i) + strings.Repeat("x", 100<<10)
			b.news(realtime.ToUser("bob"), word)
			all = append(all, fmt.Sprintf("news %q", word))
		}
		synctest.Wait()
		bob.Drop()
		bob.unstall()
		had := len(bob.got()[2:])
		require.Less(t, had, len(all))
		release()
		again := b.open("bob").got()[1:]
		require.GreaterOrEqual(t, had+len(again), len(all))
	})
}
