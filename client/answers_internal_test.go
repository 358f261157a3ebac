package client

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// readerTest passes frames to a session, like its reader. The goroutines that have made requests
// never continue.
type readerTest struct {
	*session
	t *testing.T
}

func newReaderTest(t *testing.T) *readerTest {
	s := newSession("", nil)
	s.requests.begin(1<<16, nil)
	return &readerTest{s, t}
}

// call sends a request, and returns its ID.
func (r *readerTest) call(o outgoing, settle func(result)) uint64 {
	req, err := r.requests.prepare(o, true, settle)
	require.NoError(r.t, err)
	require.NoError(r.t, r.requests.add(req))
	r.requests.next()
	return req.id
}

func (r *readerTest) join(from realtime.From) uint64 {
	return r.call(outgoing{Type: wire.RequestJoin}, r.members.beginJoin("lobby", JoinOptions{From: from}, nil).answered)
}

func (r *readerTest) leave() uint64 {
	return r.call(outgoing{Type: wire.RequestLeave}, r.members.beginLeave("lobby").answered)
}

func (r *readerTest) frame(format string, args ...any) {
	r.receive(nil, frame{data: fmt.Appendf(nil, format, args...)})
}

// added is the frame for an application that adds the client at offset 5.
func (r *readerTest) added() {
	r.frame(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":5,"top":5}}`)
}

func (r *readerTest) reply(id uint64, offset, top int) {
	r.frame(`{"message_type":"reply","id":%d,"content":{"epoch":"r1","offset":%d,"top":%d}}`, id, offset, top)
}

func (r *readerTest) refuse(id uint64) {
	r.frame(`{"message_type":"error","id":%d,"content":{"code":"forbidden","message":""}}`, id)
}

func (r *readerTest) kept(offset, prev int) {
	r.frame(`{"message_type":"chat","room":"lobby","epoch":"r1","offset":%d,"prev":%d}`, offset, prev)
}

// requireNext requires the type and position of the next request, and the number of messages that
// have been queued.
func (r *readerTest) requireNext(typ string, since, queued int) {
	f, ok := r.requests.next()
	require.True(r.t, ok)
	require.Contains(r.t, string(f.data), `"type":"`+typ+`"`)
	require.Contains(r.t, string(f.data), fmt.Sprintf(`"since":{"epoch":"r1","offset":%d}`, since))
	require.Len(r.t, r.stream.items, queued)
}

// TestAnswersTakeEffectInReader tests that an answer to Join or Leave takes effect before the next
// frame, even if the goroutine of the call has not continued.
func TestAnswersTakeEffectInReader(t *testing.T) {
	for name, test := range map[string]func(r *readerTest){
		"added while a join is refused": func(r *readerTest) {
			join := r.join(realtime.From{})
			r.added()
			r.refuse(join)
			r.kept(7, 6)
			r.requireNext(wire.RequestRecover, 5, 0)
		},
		"added while a join with history is refused": func(r *readerTest) {
			join := r.join(realtime.From{Last: 2})
			r.added()
			r.kept(6, 5)
			r.refuse(join)
			r.requireNext(wire.RequestRecover, 5, 0)
		},
		"added after a join": func(r *readerTest) {
			r.reply(r.join(realtime.From{Last: 2}), 3, 3)
			r.frame(`{"message_type":"left","room":"lobby"}`)
			r.stream.items = nil // the error
			r.added()
			r.kept(7, 6)
			r.requireNext(wire.RequestRecover, 5, 0)
		},
		"a gap after a refused leave": func(r *readerTest) {
			r.reply(r.join(realtime.From{}), 5, 5)
			r.refuse(r.leave())
			r.kept(7, 6)
			r.requireNext(wire.RequestJoin, 5, 0)
		},
		"no history": func(r *readerTest) {
			r.frame(`{"message_type":"reply","id":%d}`, r.join(realtime.From{Last: 2}))
			r.kept(7, 6)
			require.Len(r.t, r.stream.items, 1)
		},
	} {
		t.Run(name, func(t *testing.T) { test(newReaderTest(t)) })
	}
}

// TestAnswerAfterAbandon tests that the answer to a call of Join that has returned has no effect.
func TestAnswerAfterAbandon(t *testing.T) {
	r := newReaderTest(t)
	first := r.members.beginJoin("lobby", JoinOptions{}, nil)
	id := r.call(outgoing{Type: wire.RequestJoin}, first.answered)
	first.abandon()
	second := r.join(realtime.From{Last: 2})
	r.reply(id, 5, 5)
	r.reply(second, 3, 5)
	r.kept(4, 3)
	require.Len(t, r.stream.items, 1)
}

// TestOwnLeaveIsNoted tests that the client is in no room that it has left by itself, because a
// request for missing messages was refused, even if a call of Join was answered before.
func TestOwnLeaveIsNoted(t *testing.T) {
	r := newReaderTest(t)
	r.reply(r.join(realtime.From{}), 5, 5)
	r.kept(7, 6)
	r.requireNext(wire.RequestJoin, 5, 0)
	recover := r.requests.last.Load()
	join := r.join(realtime.From{})
	r.refuse(recover)
	leave, _ := r.requests.next()
	require.Contains(t, string(leave.data), `"type":"leave"`)
	r.reply(join, 8, 8)
	require.Len(t, r.members.all, 1)
	r.frame(`{"message_type":"reply","id":%d}`, r.requests.last.Load())
	require.Empty(t, r.members.all)
}

// newTestLink returns a link whose answers are taken by the test.
func newTestLink(t *testing.T) *link {
	l := &link{answers: make(chan frame)}
	l.ctx, l.end = context.WithCancelCause(t.Context())
	return l
}

// TestServerReactsAtOnce tests that a client accepts the next call, and the next request for a
// refresh, as soon as the server has its answer.
func TestServerReactsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession("", &DialOptions{
			Token: func(context.Context) (string, error) { return "t", nil },
			OnCall: func(context.Context, realtime.Inbound) (any, error) {
				return 1, nil
			},
		})
		s.limit = 1 << 16
		l := newTestLink(t)
		call := func() { s.receive(l, frame{data: []byte(`{"message_type":"call","id":1,"method":"m"}`)}) }
		for range maxCalls {
			call()
		}
		for range 1_000 {
			require.Contains(t, string((<-l.answers).data), `"reply"`)
			call()
		}
		for range maxCalls {
			<-l.answers
		}
		for range 1_000 {
			s.refresh(l)
			synctest.Wait()
			require.Contains(t, string((<-l.answers).data), `"refresh"`)
		}
		s.work.Wait()
	})
}
