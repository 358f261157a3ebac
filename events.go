package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// RoomEvent is a change of the members of a room in this process, see Options.OnRoom.
type RoomEvent struct {
	Kind RoomEventKind
	Room string
	// Conn is the connection that the event is about. Was is the connection whose session Conn has
	// resumed, for MemberBack; otherwise it is nil.
	Conn, Was *Conn
	// Opened and UserJoined are for MemberJoined: Conn is the first member of the room, and the
	// first connection of its user in the room.
	Opened, UserJoined bool
	// UserAway and UserBack are for users with several connections in the room: now all of them are
	// away, or one of them is open again. UserAway comes with MemberAway, or with MemberLeft of the
	// last open one; UserBack with MemberBack, or with MemberJoined of a new one.
	UserAway, UserBack bool
	// UserLeft and Emptied are for MemberLeft: Conn was the last connection of its user in the
	// room, and the last member of the room. All flags of users are false for an anonymous
	// connection.
	UserLeft, Emptied bool
	// Count is how many users and connections are in the room after the event.
	Count Count
	// Why says how the connection ended, for MemberAway, and for MemberLeft of a connection that
	// has ended. Otherwise it is nil.
	Why *CloseError
}

// RoomEventKind is the kind of a [RoomEvent].
type RoomEventKind string

// The kinds of room events. MemberJoined and MemberLeft alternate for each connection and room;
// MemberAway and MemberBack alternate between them. After MemberBack, the member is Conn in place
// of Was.
const (
	MemberJoined RoomEventKind = "joined" // Conn is a member
	MemberAway   RoomEventKind = "away"   // Conn is lost, and its client may resume its session
	MemberBack   RoomEventKind = "back"   // Conn has resumed the session of Was
	MemberLeft   RoomEventKind = "left"   // Conn is not a member any more
)

const (
	// maxRoomEvents is how many events of a room may wait. While so many wait, clients wait before
	// they join the room.
	maxRoomEvents = 1024
	// slowRoomEvent is how long a call of OnRoom may take before it is logged.
	slowRoomEvent = 5 * time.Second
)

// roomEvents passes room events to Options.OnRoom.
type roomEvents struct {
	m       *Manager
	waiting atomic.Int64 // events that OnRoom has not handled

	mu   sync.Mutex
	held map[*Conn]chan struct{} // connections whose commands wait, see wait
}

func newRoomEvents(m *Manager) *roomEvents {
	return &roomEvents{m: m, held: make(map[*Conn]chan struct{})}
}

// roomQueue are the events of a room that wait, in the order of the changes. It is guarded by the
// lock of the room, and exists while a goroutine handles events of the room.
type roomQueue struct {
	events []RoomEvent
	space  chan struct{} // closed when there is space again; nil if nobody waits for that
}

// enters reports whether Conn has become a member with the event.
func (e *RoomEvent) enters() bool { return e.Kind == MemberJoined || e.Kind == MemberBack }

// add adds an event of a room, whose lock is held.
func (es *roomEvents) add(r *room, e RoomEvent) {
	if es.m.opts.OnRoom == nil {
		return
	}
	e.Room, e.Count = r.name, r.count()
	switch {
	case e.enters():
		e.Conn.unhandled.Add(1)
	case e.Kind == MemberAway:
		e.Why = es.m.detached.withGrace(e.Conn.session.Why())
	default:
		e.Why = e.Conn.session.Why()
	}
	es.waiting.Add(1)
	if r.queue == nil {
		r.queue = &roomQueue{}
		r.holds++ // until the queue is empty, so that its order is that of the room's name
		es.start(r)
	}
	r.queue.events = append(r.queue.events, e)
}

func (es *roomEvents) start(r *room) {
	es.m.registry.handlers.Go(func() { es.run(r) })
}

// run handles the events of a room until none is left.
func (es *roomEvents) run(r *room) {
	done := false
	defer func() {
		if !done { // runtime.Goexit in OnRoom
			es.start(r)
		}
	}()
	for {
		e, ok := es.next(r)
		if !ok {
			break
		}
		es.handle(e)
	}
	done = true
}

// next takes the oldest event of a room. If there is none, it ends the queue.
func (es *roomEvents) next(r *room) (e RoomEvent, ok bool) {
	r.mu.Lock()
	q := r.queue
	if len(q.events) == 0 {
		r.queue = nil
		r.holds--
		es.m.rooms.unlock(r)
		return e, false
	}
	defer r.mu.Unlock()
	e, q.events[0] = q.events[0], RoomEvent{}
	q.events = q.events[1:]
	if q.space != nil && len(q.events) < maxRoomEvents {
		close(q.space)
		q.space = nil
	}
	return e, true
}

// handle calls OnRoom. If OnRoom panics, the next event is handled nevertheless.
func (es *roomEvents) handle(e RoomEvent) {
	defer es.handled(&e)
	running := new(atomic.Bool)
	running.Store(true)
	defer running.Store(false)
	slow := timerwheel.Timer{Fire: func() { es.log(&e, slog.LevelWarn, "is slow") }}
	es.m.wheel.Set(&slow, slowRoomEvent)
	defer es.m.wheel.Stop(&slow)
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover() // nil after Goexit
		es.m.counters.Add(metrics.Panics, 1)
		es.log(&e, slog.LevelError, "panicked",
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	}()
	ctx := context.WithoutCancel(e.Conn.Context())
	ctx = context.WithValue(ctx, connKey{&es.m.registry.handlers}, running)
	es.m.opts.OnRoom(ctx, e)
	returned = true
}

func (es *roomEvents) log(e *RoomEvent, level slog.Level, what string, more ...slog.Attr) {
	es.m.log.Log(context.Background(), level, "room "+what, "realtime: OnRoom "+what,
		append(more, slog.String("room", e.Room), slog.String("event", string(e.Kind)),
			slog.String("conn", e.Conn.id))...)
}

// handled accounts for an event that OnRoom has handled.
func (es *roomEvents) handled(e *RoomEvent) {
	es.waiting.Add(-1)
	if !e.enters() {
		return
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	if e.Conn.unhandled.Add(-1) > 0 {
		return
	}
	if held, ok := es.held[e.Conn]; ok {
		close(held)
		delete(es.held, e.Conn)
	}
}

// wait waits until OnRoom has handled all joins and returns of a connection, or the connection
// ends. It is called before each command of the client, and before a join by the REST interface, so
// that a client has one join at a time whose event waits. It returns the cause of ctx if ctx ends
// first.
func (es *roomEvents) wait(ctx context.Context, c *Conn) error {
	for c.unhandled.Load() > 0 && !c.session.Ended() {
		select {
		case <-es.hold(c):
		case <-c.session.Context().Done():
		case <-ctx.Done():
			return eventsError(ctx)
		}
	}
	return nil
}

func eventsError(ctx context.Context) error {
	return fmt.Errorf("realtime: events of the room: %w", context.Cause(ctx))
}

// hold returns a channel that is closed when OnRoom has handled all joins and returns of a
// connection.
func (es *roomEvents) hold(c *Conn) <-chan struct{} {
	es.mu.Lock()
	defer es.mu.Unlock()
	held, ok := es.held[c]
	if !ok {
		held = make(chan struct{})
		if c.unhandled.Load() == 0 {
			close(held)
		} else {
			es.held[c] = held
		}
	}
	return held
}

// waitSpace waits until fewer than maxRoomEvents events wait in each of the rooms, so that clients
// cannot make the queues grow. It returns the cause of ctx if ctx ends first.
func (es *roomEvents) waitSpace(ctx context.Context, rooms ...string) error {
	for _, name := range rooms {
		for space := es.space(name); space != nil; space = es.space(name) {
			select {
			case <-space:
			case <-ctx.Done():
				return eventsError(ctx)
			}
		}
	}
	return nil
}

// space returns a channel that is closed when a room has space for events, or nil if it has now.
func (es *roomEvents) space(name string) <-chan struct{} {
	r := es.m.rooms.lock(name)
	if r == nil {
		return nil
	}
	defer r.mu.Unlock()
	q := r.queue
	if q == nil || len(q.events) < maxRoomEvents {
		return nil
	}
	if q.space == nil {
		q.space = make(chan struct{})
	}
	return q.space
}
