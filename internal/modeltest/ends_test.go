package modeltest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/realtime-go/realtime"
)

// ends are the client sides of the connections of a test in real time.
type ends struct {
	t       *testing.T
	ctx     context.Context
	rt      *realtime.Manager
	readers sync.WaitGroup
	gone    sync.Map // by connection id: a channel that OnDisconnect closes
}

// connected is the OnConnect of the test.
func (s *ends) connected(_ context.Context, c *realtime.Conn) error {
	s.gone.Store(c.ID(), make(chan struct{}))
	return nil
}

// disconnected is the OnDisconnect of the test.
func (s *ends) disconnected(_ context.Context, c *realtime.Conn, _ *realtime.CloseError) {
	close(s.goneOf(c)) // a second call would panic, and panics are counted
}

func (s *ends) goneOf(c *realtime.Conn) chan struct{} {
	gone, _ := s.gone.Load(c.ID())
	return gone.(chan struct{})
}

// open opens a connection as e, which no other goroutine knows yet, and starts to read. It returns
// nil if the user is disconnected in the meantime.
func (s *ends) open(e *end) *end {
	transport, pipe := realtime.Pipe()
	conn, err := s.rt.Register(s.ctx, transport, realtime.Identity{UserID: e.user})
	if errors.Is(err, realtime.ErrDenied) { // User.Disconnect was called during Register
		return nil
	}
	if err != nil {
		s.t.Errorf("open: %v", err)
		return nil
	}
	e.conn, e.pipe, e.gone = conn, pipe, s.goneOf(conn)
	e.reads, e.pongs = make(chan struct{}), make(chan struct{}, 1)
	if !e.stalled {
		e.start()
	}
	s.readers.Go(func() { e.read(s.t) })
	return e
}

// await waits until e has ended.
func (s *ends) await(e *end) {
	select {
	case <-e.gone:
	case <-s.ctx.Done():
		s.t.Error("a closed connection does not end")
	}
}

// ping waits until each of e has read what it was sent, and what it wrote has been handled.
func (s *ends) ping(e ...*end) {
	for _, e := range e {
		if err := e.pipe.Write([]byte("ping")); err != nil {
			s.t.Errorf("ping: %v", err)
		}
	}
	for _, e := range e {
		select {
		case <-e.pongs:
		case <-s.ctx.Done():
			s.t.Error("a connection gets no pong")
		}
	}
}

// end is the client side of one connection.
type end struct {
	conn    *realtime.Conn
	pipe    *realtime.PipeClient
	user    string
	home    bool          // an actor's own connection, which no other actor uses
	stalled bool          // does not read at first
	closed  bool          // its client has ended it; guarded by storm.mu
	gone    chan struct{} // closed by OnDisconnect
	reads   chan struct{} // closed when reading may begin; made by open, like the fields above
	pongs   chan struct{}

	got  []string // texts of chats; complete after the end or a drain
	seen []notice // notices; likewise
	n    uint64   // number of frames
}

// notice is a received notice.
type notice struct {
	what string // userjoined, userleft, room_join, room_leave
	user string
	room string
}

// start allows reading to begin. Only one goroutine may call it.
func (e *end) start() {
	select {
	case <-e.reads:
	default:
		close(e.reads)
	}
}

// read reads until the connection has ended.
func (e *end) read(t *testing.T) {
	select {
	case <-e.reads:
	case <-e.gone: // frames that were queued before the end can still be read
	}
	for {
		frame, _, err := e.pipe.Read(context.Background())
		if err != nil {
			return
		}
		if e.n++; string(frame) == pongFrame {
			e.pongs <- struct{}{}
			continue
		}
		e.record(t, frame)
	}
}

func (e *end) record(t *testing.T, frame []byte) {
	var f struct {
		MessageType string  `json:"message_type"`
		SenderID    *string `json:"sender_id"`
		Content     struct {
			Type, Content, Room string
			RoomID              string `json:"room_id"`
		}
	}
	if err := json.Unmarshal(frame, &f); err != nil {
		t.Errorf("frame %q: %v", frame, err)
		return
	}
	user := ""
	if f.SenderID != nil {
		user = *f.SenderID
	}
	switch f.MessageType {
	case "chat":
		e.got = append(e.got, strings.TrimRight(f.Content.Content, "."))
	case "userjoined", "userleft":
		e.seen = append(e.seen, notice{what: f.MessageType, user: user})
	case "systemnotification":
		e.seen = append(e.seen, notice{what: f.Content.Type, user: user, room: f.Content.RoomID})
	}
}
