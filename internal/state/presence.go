package state

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// ErrFull is returned if no more state can be kept.
var ErrFull = errors.New("state: full")

// ErrShort is an ErrFull because memory is short.
var ErrShort = fmt.Errorf("%w: memory is short", ErrFull)

// maxEntryBytes returns the size of the entries up to which a room shows them. A snapshot must fit
// into a send queue.
func (c *Config) maxEntryBytes() int64 { return min(maxEntryBytes, int64(c.QueueBytes/4)) }

// Show says what a room shows of its members.
type Show uint8

// What a room can show.
const (
	ShowNothing Show = iota
	ShowCount
	ShowMembers
)

const (
	// A room with more entries, or more bytes of them, shows their number only, until it has less
	// than the smaller bounds.
	maxEntries, fewEntries       = 1000, 800
	maxEntryBytes, fewEntryBytes = 256 << 10, 192 << 10

	// countTick is the time between two frames with the number of members.
	countTick = time.Second

	// entryOverhead is about the memory of an entry without its info and state, in bytes.
	entryOverhead = 256
	// keyLength is the length of the keys that the server chooses. They are short because all
	// watchers receive all keys.
	keyLength = 8
)

// Entry is what a room shows of one member.
type Entry struct {
	Owner     any  // what the hub keeps with an entry of this node
	Contested bool // another node has given its key, too; set by the hub
	// Since is when an entry of this node was added, in milliseconds of Unix time.
	Since int64

	room    *Room
	foreign bool // of another node, see Room.ShowForeign
	lost    bool // the client of a foreign entry may come back at this node
	wire.Entry
}

// memory returns about how much memory an entry takes, in bytes.
func (e *Entry) memory() int64 {
	return int64(entryOverhead + len(e.User) + len(e.Key) + len(e.Info) + len(e.State))
}

// presence are the entries of a room.
type presence struct {
	room    string
	show    Show
	table   table[*Entry]
	size    int64 // memory of the entries, in bytes
	tooMany bool

	users, conns int

	counted      *sendqueue.Frame // with the number of members; nil before the first one
	countVersion uint64
	countedAt    time.Time
	recount      bool // the number has changed since
}

func newPresence(room string, show Show) presence {
	return presence{room: room, show: show, table: newTable[*Entry]()}
}

// counting reports whether watchers get the number of members only.
func (p *presence) counting() bool { return p.show == ShowCount || p.tooMany }

// version returns the version that a reader has that is up to date.
func (p *presence) version() uint64 {
	switch {
	case p.show == ShowNothing:
		return 0
	case p.counting():
		return p.countVersion
	default:
		return p.table.version
	}
}

// knows reports whether a reader of a version can be brought up to date by a difference.
func (p *presence) knows(version uint64) bool {
	if p.counting() {
		return version == p.countVersion
	}
	return p.table.knows(version)
}

// due returns when the next frame with the number of members is due, or zero.
func (p *presence) due() time.Time {
	if !p.counting() || !p.recount {
		return time.Time{}
	}
	return p.countedAt.Add(countTick)
}

// prepare makes the frame with the number of members, if it is due.
func (p *presence) prepare(now time.Time) {
	if !p.counting() || p.counted != nil && (!p.recount || now.Before(p.due())) {
		return
	}
	p.table.version++
	p.countVersion, p.countedAt, p.recount = p.table.version, now, false
	p.counted = (&wire.PresenceFrame{
		Room: p.room, Version: p.countVersion, Show: wire.ShowCount, Users: p.users, Conns: p.conns,
	}).Encode()
}

// frame returns what brings a reader of a version up to date. Version 0 is that of a new reader.
func (p *presence) frame(from uint64) *sendqueue.Frame {
	if p.counting() {
		return p.counted
	}
	f := wire.PresenceFrame{
		Room: p.room, Prev: from, Version: p.table.version, Users: p.users, Conns: p.conns,
	}
	if from == 0 {
		f.Show = wire.ShowMembers
	}
	for _, c := range p.table.after(from) {
		switch {
		case !c.gone:
			f.Members = append(f.Members, &c.value.Entry)
		case from != 0:
			f.Gone = append(f.Gone, c.key)
		}
	}
	return f.Encode()
}

// SetCount notes how many users and connections are members.
func (r *Room) SetCount(users, conns int) {
	p := &r.presence
	if p.users == users && p.conns == conns {
		return
	}
	p.users, p.conns, p.recount = users, conns, true
	if p.counting() {
		r.changedPresence(0)
	}
}

// Touch tells the watchers of a room that shows its members that the number has changed, although
// no entry has.
func (r *Room) Touch() {
	if r.presence.show == ShowMembers && !r.presence.tooMany {
		r.presence.table.touch()
		r.changedPresence(joinTick)
	}
}

// AddEntry adds an entry for a member. The key is the one that the client has chosen, or "". If
// another entry has it, the entry gets another one. If no more state can be kept, it has no state.
func (r *Room) AddEntry(user, key string, info, state []byte) *Entry {
	if !r.cfg.fits(int64(len(state))) {
		state = nil
	}
	e := &Entry{
		room: r, Since: time.Now().UnixMilli(), Entry: wire.Entry{User: user, Info: info, State: state},
	}
	other := key == ""
	for e.Key = key; other || r.presence.taken(e.Key, user); other = false {
		e.Key = rand.Text()[:keyLength]
	}
	more := e.memory()
	if old, has := r.presence.table.get(e.Key); has {
		more -= old.memory()
	}
	r.presence.table.set(e.Key, e)
	r.resized(more, joinTick)
	r.changedOwn(e.Key)
	return e
}

// changedOwn tells the other nodes that an entry of this one has changed.
func (r *Room) changedOwn(key string) {
	if r.Changed != nil {
		r.Changed(key)
	}
}

// Own returns the entry of this node with a key, or nil.
func (r *Room) Own(key string) *Entry {
	if e, ok := r.presence.table.get(key); ok && !e.foreign {
		return e
	}
	return nil
}

// OwnEntries returns the entries of this node.
func (r *Room) OwnEntries() (own []*Entry) {
	for _, c := range r.presence.table.cells {
		if !c.gone && !c.value.foreign {
			own = append(own, c.value)
		}
	}
	return own
}

// ShowForeign shows an entry of another node, or removes it if e is nil. It does nothing if this
// node has an entry with the key. lost says that its client may come back at this node, with its
// key. The room keeps info and state.
func (r *Room) ShowForeign(key string, e *wire.Entry, lost bool) {
	old, has := r.presence.table.get(key)
	switch {
	case has && !old.foreign, !has && e == nil:
	case e == nil:
		old.Remove()
	case has && old.User == e.User:
		old.lost = lost
		more := int64(len(e.Info) + len(e.State) - len(old.Info) - len(old.State))
		same := old.Away == e.Away && bytes.Equal(old.Info, e.Info) && bytes.Equal(old.State, e.State)
		if old.Info, old.State, old.Away = e.Info, e.State, e.Away; !same {
			r.put(old, more)
		}
	default:
		if has {
			old.Remove()
		}
		shown := &Entry{room: r, foreign: true, lost: lost, Entry: *e}
		shown.Key = key
		r.presence.table.set(key, shown)
		r.resized(shown.memory(), joinTick)
	}
}

// taken reports whether a new entry of a user cannot have a key. For watchers who have not heard
// that the entry of another user is gone, it would become one of this user. A user may take their own key
// from another node: its client has come from there, though that node may not have noticed, or may be
// dead.
func (p *presence) taken(key, user string) bool {
	c := p.table.cells[key]
	if c == nil {
		return false
	}
	return c.value.User != user || user == "" || !c.gone && !c.value.foreign
}

// put notes that an entry has changed, and takes so many more bytes than before.
func (r *Room) put(e *Entry, more int64) {
	r.presence.table.set(e.Key, e)
	r.resized(more, 0)
	if !e.foreign {
		r.changedOwn(e.Key)
	}
}

// Rekey gives the entry another key: another node has given its key at the same time.
func (e *Entry) Rekey() {
	r, old := e.room, *e
	for e.Key = ""; e.Key == "" || r.presence.table.cells[e.Key] != nil; {
		e.Key = rand.Text()[:keyLength]
	}
	r.presence.table.set(e.Key, e) // before the old one is gone, or the user would seem to leave
	r.resized(e.memory(), 0)
	r.changedOwn(e.Key)
	old.Remove()
}

// Remove removes the entry.
func (e *Entry) Remove() {
	r := e.room
	// Of an entry that is gone, only the user is needed, see taken.
	r.presence.table.remove(e.Key, &Entry{Entry: wire.Entry{Key: e.Key, User: e.User}})
	r.resized(-e.memory(), joinTick)
	if !e.foreign {
		r.changedOwn(e.Key)
	}
}

// resized accounts for memory, and flushes.
func (r *Room) resized(more int64, least time.Duration) {
	p := &r.presence
	p.size += more
	r.cfg.hold(more)
	n, size := p.table.len(), p.size-entryOverhead*int64(p.table.len())
	switch {
	case !p.tooMany && (n > maxEntries || size > r.cfg.maxEntryBytes()):
		p.tooMany, p.recount, p.counted = true, true, nil
	case p.tooMany && n < fewEntries && size < r.cfg.maxEntryBytes()*fewEntryBytes/maxEntryBytes:
		p.tooMany = false
		p.table.forget() // so that all readers begin with a snapshot
	}
	r.changedPresence(least)
}

// SetState sets what the client says about the member. Nil: nothing. The entry keeps state.
func (e *Entry) SetState(state []byte) error {
	if bytes.Equal(e.State, state) {
		return nil
	}
	more := int64(len(state) - len(e.State))
	if !e.room.cfg.fits(more) {
		return ErrFull
	}
	e.State = state
	e.room.put(e, more)
	return nil
}

// SetInfo sets what the application says about the member. Nil: nothing. The entry keeps info.
func (e *Entry) SetInfo(info []byte) {
	if bytes.Equal(e.Info, info) {
		return
	}
	more := int64(len(info) - len(e.Info))
	e.Info = info
	e.room.put(e, more)
}

// SetAway says whether the connection of the member is lost.
func (e *Entry) SetAway(away bool) {
	if e.Away != away {
		e.Away = away
		e.room.put(e, 0)
	}
}

// Watchers returns how many members are told of a change.
func (r *Room) Watchers() int {
	if r.presence.counting() {
		return 1
	}
	return r.watchers
}

// Version returns the version of the entries.
func (r *Room) Version() uint64 { return r.presence.table.version }

// Entries returns copies of all entries, or nil if they are too many to be shown.
func (r *Room) Entries() []wire.Entry {
	if r.presence.tooMany {
		return nil
	}
	entries := make([]wire.Entry, 0, r.presence.table.len())
	for _, c := range r.presence.table.cells {
		if !c.gone {
			entries = append(entries, c.value.Entry)
		}
	}
	return entries
}
