package realtime

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Room is a handle on a room, whether or not anybody is in it: a small value, made
// by [Manager.Room]. Its methods return ErrInvalidName for a room that cannot exist, see [ValidName]:
// also those of the zero Room.
type Room struct {
	m    *Manager
	name string
}

// Room returns the handle on a room.
func (m *Manager) Room(name string) Room { return Room{m, name} }

// Name returns the room's name.
func (r Room) Name() string { return r.name }

// check returns an error if there can be no such room, as of a zero Room.
func (r Room) check() error { return checkRoom(r.name) }

// Members returns the users in the room, each once and in order. Anonymous
// connections are not among them. It does not block; ctx and the error, which is
// nil, are for brokers that know the rosters of other processes.
func (r Room) Members(context.Context) ([]string, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return []string{}, nil
	}
	users := found.roster()
	found.mu.Unlock()
	slices.Sort(users)
	return users, nil
}

// Count returns how many are in the room. It is as cheap for a large room as for a
// small one. ctx and error are as for Members.
func (r Room) Count(context.Context) (Count, error) {
	if err := r.check(); err != nil {
		return Count{}, err
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return Count{}, nil
	}
	defer found.mu.Unlock()
	return found.count(), nil
}

// LocalConns returns the room's connections in this process, as of the call.
func (r Room) LocalConns() iter.Seq[*Conn] {
	if r.check() != nil {
		return slices.Values[[]*Conn](nil)
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return slices.Values[[]*Conn](nil)
	}
	defer found.mu.Unlock()
	return slices.Values(found.conns())
}

// Remove takes all connections of a user out of the room, and returns how many. A join
// that a client or a REST caller has asked for and that is being authorised fails with
// ErrDenied; one that is asked for after that is up to the authorizer. When it returns, the
// user is no member, unless [Manager.Join] is called. ctx is for brokers to come.
func (r Room) Remove(_ context.Context, user string) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	x := r.m
	x.revocations.Revoke(admission.Subject{User: user, Room: r.name})
	n := 0
	for _, c := range append(x.rooms.conns(r.name, user), x.users.detachedOf(user)...) {
		if left, _ := x.joins.leave(c, r.name, nil); left {
			n++
		}
	}
	return n, nil
}

// Deny keeps a user out of the room for some time, and takes him out as Remove does. Every
// way to join returns ErrDenied, that of the application too. Zero or less lifts it. It holds
// in this process, until that ends.
func (r Room) Deny(ctx context.Context, user string, how time.Duration) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	r.m.revocations.Deny(admission.Subject{User: user, Room: r.name}, how)
	if how <= 0 {
		return 0, nil
	}
	return r.Remove(ctx, user)
}

// LocalRooms returns the names of all rooms that have members in this process, in
// order, as of the call.
func (m *Manager) LocalRooms() iter.Seq[string] {
	var names []string
	for _, r := range m.rooms.index.Values() {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return slices.Values(names)
}

// RoomOptions is what Options.Room says about one room.
type RoomOptions struct {
	// Slow is what happens to a member whose queue is full when a message to this
	// room comes. Zero means Options.Slow.
	Slow SlowPolicy
	// History is how much the room keeps. Zero Messages means Options.History, negative ones
	// that it keeps nothing.
	History Retention
}

// Count is how many are in a room, with connections that were lost and may come back, see
// Timeouts.Resume.
type Count struct {
	Users int // users, each once; anonymous connections are none
	Conns int
}

// room is the members of one room. It exists while it has any.
type room struct {
	name   string
	policy recovery.Policy
	m      *Manager
	topic  *recovery.Topic // nil if it keeps nothing

	mu      sync.Mutex
	holds   int // joins that are under way, and absent connections
	members []member
	users   map[string]int // connections in the roster, by user
	most    int            // that users has held
	shown   int            // connections in the roster
	list    *presence      // of the roster as it is, nil if nobody has asked
	making  chan struct{}  // closed when the list that is being made is, nil if none is
	changes int            // of the roster
	dead    bool           // its last member has left; a new room takes the name
}

// member is an entry in the list that a delivery walks.
type member struct {
	receiver
	*membership
}

// rooms is the index of rooms by name.
type rooms struct {
	index *shardmap.Map[*room]
	m     *Manager
}

func newRooms(m *Manager) *rooms { return &rooms{index: shardmap.New[*room](), m: m} }

// enter locks the room of this name, which it makes with this policy if there is
// none. The caller adds a member and unlocks.
func (rs *rooms) enter(name string, p recovery.Policy) *room {
	for {
		r := rs.index.GetOrPut(name, func() *room {
			rs.m.counters.Rooms.Add(1)
			r := &room{name: name, policy: p, m: rs.m}
			if p.Keeps() {
				r.topic = recovery.NewTopic(broker.RoomStream(name), name, p, &r.mu)
			}
			return r
		})
		r.mu.Lock()
		if !r.dead {
			return r
		}
		r.mu.Unlock()
		rs.index.CompareAndDelete(name, r)
	}
}

// find locks the room of this name, or returns nil. A room with members is found.
func (rs *rooms) find(name string) *room {
	r, ok := rs.index.Get(name)
	if !ok {
		return nil
	}
	r.mu.Lock()
	if r.dead {
		r.mu.Unlock()
		return nil
	}
	return r
}

// leave unlocks a room and removes it if nobody is in it.
func (rs *rooms) leave(r *room) {
	if len(r.members)+r.holds > 0 {
		r.mu.Unlock()
		return
	}
	r.dead = true
	rs.m.counters.Rooms.Add(-1)
	if r.topic != nil {
		r.topic.Close(rs.m.broker)
	}
	r.mu.Unlock()
	rs.index.CompareAndDelete(r.name, r)
}

// hold keeps the room of this name for a join, until unpin. One that keeps history is subscribed to
// its stream, which may take until ctx ends.
func (rs *rooms) hold(ctx context.Context, name string, p recovery.Policy) (*room, error) {
	r := rs.enter(name, p)
	r.holds++
	r.mu.Unlock()
	if r.topic == nil {
		return r, nil
	}
	if err := r.topic.Open(ctx, rs.m.broker); err != nil {
		rs.release(r)
		return nil, err
	}
	return r, nil
}

// release undoes pin.
func (rs *rooms) release(r *room) {
	r.mu.Lock()
	r.holds--
	rs.leave(r)
}

// conns returns the connections of a user that are in a room, also those that are not in
// its roster yet.
func (rs *rooms) conns(name, user string) (conns []*Conn) {
	r := rs.find(name)
	if r == nil {
		return nil
	}
	defer r.mu.Unlock()
	for i := range r.members {
		if c := r.members[i].conn; user != "" && c.UserID() == user {
			conns = append(conns, c)
		}
	}
	return conns
}

// add makes m a receiver. It is in the roster from show on.
func (r *room) add(m *membership) {
	m.index = len(r.members)
	r.members = append(r.members, member{m.conn.plain(), m})
	if r.topic != nil {
		c := m.conn
		m.sub = r.m.fetcher.Subscribe(recovery.Config{
			Topic: r.topic, Subscriber: &roomSubscriber{(*subscriber)(c), m, r},
			Queue: c.queue, Protocol: c.proto, Lagging: &c.lagging,
		})
	}
}

// subscriber is a connection as package recovery sees it.
type subscriber Conn

// Context implements recovery.Subscriber.
func (s *subscriber) Context() context.Context { return s.session.Context() }

// Ended implements recovery.Subscriber.
func (s *subscriber) Ended() bool { return s.session.Ended() }

// Fail implements recovery.Subscriber.
func (s *subscriber) Fail(err error) {
	s.session.End(&CloseError{
		Cause: CauseServer, Code: CloseInternal, Reason: "internal error", Err: err,
	}, transport.CloseGrace)
}

// Excluded implements recovery.Subscriber.
func (s *subscriber) Excluded(t *broker.Target) bool { return (*Conn)(s).excluded(t) }

// Charge implements recovery.Subscriber.
func (s *subscriber) Charge(bytes int) { s.session.Bill().Bytes(bytes) }

// roomSubscriber is a member of a room that keeps history.
type roomSubscriber struct {
	*subscriber
	m *membership
	r *room
}

// SetNeedsCheck implements recovery.Subscriber.
func (s *roomSubscriber) SetNeedsCheck(yes bool) { s.r.members[s.m.index].checks = yes }

// Restart implements recovery.Subscriber. It is for inboxes.
func (s *roomSubscriber) Restart(context.Context) (broker.Position, error) {
	return broker.Position{}, nil
}

// Acknowledge implements recovery.Subscriber. It is for inboxes.
func (s *roomSubscriber) Acknowledge() {}

// show puts m into the roster and tells the members, if it is the user's first
// connection here, or else m alone. A nil notice tells nobody. It returns how many were told.
func (r *room) show(m *membership, notice *wire.Frames) (told int) {
	m.visible = true
	r.shown++
	r.changed()
	first := true
	if user := m.conn.UserID(); user != "" {
		if r.users == nil {
			r.users = make(map[string]int)
		}
		first = r.users[user] == 0
		r.users[user]++
	}
	switch {
	case notice == nil:
		return 0
	case first:
		return r.announce(notice)
	default:
		m.conn.give(notice, sendqueue.Notice)
		return 1
	}
}

// detach makes an absent connection of a member: it stays in the roster.
func (r *room) detach(m *membership) {
	r.drop(m)
	m.absent = true
	r.holds++
}

// replace gives the place of an absent connection to a member, or to one that is absent by now.
func (r *room) replace(m, heir *membership) {
	if !heir.absent {
		r.holds--
		r.add(heir)
	}
	if heir.visible = m.visible; !heir.visible {
		r.show(heir, nil)
	}
}

// remove takes m out and tells those who stay, if it was the user's last connection
// in the roster. It returns how many were told.
func (r *room) remove(m *membership, notice *wire.Frames) (told int) {
	if m.absent {
		r.holds--
	} else {
		r.drop(m)
	}
	if !m.visible {
		return 0
	}
	r.shown--
	r.changed()
	if user := m.conn.UserID(); user != "" {
		if r.users[user]--; r.users[user] > 0 {
			return 0
		}
		r.users = shrink.Delete(r.users, user, &r.most)
	}
	if notice == nil {
		return 0
	}
	return r.announce(notice)
}

// drop takes m out of the receivers.
func (r *room) drop(m *membership) {
	last := len(r.members) - 1
	r.members[m.index] = r.members[last]
	r.members[m.index].index = m.index
	r.members = shrink.Pop(r.members)
	if m.sub != nil {
		m.sub.Leave()
	}
}

// announce tells the members something, and returns how many they are.
func (r *room) announce(notice *wire.Frames) (told int) {
	r.m.counters.Add(metrics.Matched, len(r.members))
	for i := range r.members {
		r.members[i].push(notice, sendqueue.Notice, sendqueue.DropNewest)
	}
	notice.Settle(&r.m.counters.Queues.Budget)
	return len(r.members)
}

// changed notes that the roster is another one now.
func (r *room) changed() {
	r.changes++
	r.list = nil
}

// presence is who is in a room, as a client is answered.
type presence struct {
	users   int // that are listed
	content []byte
}

const (
	// maxListed is up to how many users a room's are listed for a client: beyond, it gets the
	// numbers.
	maxListed = 1000
	// maxTries is how often a list is made anew because the roster has changed meanwhile, before
	// it is made under the lock.
	maxTries = 3
)

// newListing makes a list of users that are in no order. Nil stands for too many.
func newListing(users []string, n Count) *presence {
	slices.Sort(users)
	return &presence{users: len(users), content: wire.Presence(users, n.Users, n.Conns)}
}

// listed returns what a list is made of.
func (r *room) listed() (users []string, n Count) {
	if len(r.users) <= maxListed {
		users = r.roster()
	}
	return users, r.count()
}

// makeList makes the list, or waits for the one that is being made. r.mu is held, and released.
func (r *room) makeList() {
	if made := r.making; made != nil {
		r.mu.Unlock()
		<-made
		return
	}
	made, changes := make(chan struct{}), r.changes
	r.making = made
	users, n := r.listed()
	r.mu.Unlock()
	list := newListing(users, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.making = nil; changes == r.changes {
		r.list = list
	}
	close(made)
}

func (r *room) count() Count { return Count{Users: len(r.users), Conns: r.shown} }

// roster returns the users in no order.
func (r *room) roster() []string {
	users := make([]string, 0, len(r.users))
	for user := range r.users {
		users = append(users, user)
	}
	return users
}

func (r *room) conns() []*Conn {
	conns := make([]*Conn, 0, r.shown)
	for _, m := range r.members {
		if m.visible {
			conns = append(conns, m.conn)
		}
	}
	return conns
}

// inspect shows who is in a room, while nobody comes or goes. The list is made without the lock,
// once for all who ask before the roster changes again.
func (rs *rooms) inspect(name string, see func(l *presence)) {
	for tries := 1; ; tries++ {
		r := rs.find(name)
		if r == nil {
			see(newListing([]string{}, Count{}))
			return
		}
		if r.list == nil && tries <= maxTries {
			r.makeList()
			continue
		}
		if r.list == nil { // it changes faster than a list is made
			r.list = newListing(r.listed())
		}
		see(r.list)
		r.mu.Unlock()
		return
	}
}
