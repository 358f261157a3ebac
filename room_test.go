package realtime

import (
	"log/slog"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // frees objects whose finalisers the first one has queued
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// When many connections have left, the memory that they took is free again.
func TestMemoryOfACrowdIsGivenBack(t *testing.T) {
	const crowd = 300_000
	m := New(nil)
	defer func() { require.NoError(t, m.Close()) }()
	rooms := m.rooms
	hall := rooms.lockNew("hall", roomPolicy{})
	hall.mu.Unlock()
	hall.users = map[string]attendance{}
	before := heap()
	for i := range crowd {
		rooms.unlock(rooms.lockNew("room "+strconv.Itoa(i), roomPolicy{})) // the room is removed
	}
	members := make([]*membership, crowd)
	for i := range members {
		c := &Conn{identity: Identity{UserID: strconv.Itoa(i)}}
		members[i] = &membership{conn: c, room: "hall"}
		hall.add(members[i])
		hall.show(members[i], false)
		m.conns.everyone.add(c)
	}
	require.Greater(t, heap()-before, int64(crowd*64))
	for i, one := range members {
		hall.remove(one)
		m.conns.everyone.remove(one.conn)
		members[i] = nil
	}
	members = nil
	require.Less(t, heap()-before, int64(256<<10))
	runtime.KeepAlive(hall)
}

// A Manager that is alone pays nothing for other nodes: a join allocates the room, its lists and the
// membership.
func TestJoinAllocates(t *testing.T) {
	m := New(&Options{Logger: slog.New(slog.DiscardHandler)})
	defer func() { _ = m.Close() }()
	transport, far := Pipe()
	defer far.Drop()
	c, err := m.Register(t.Context(), transport, Identity{UserID: "alice"})
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		_, _ = c.Join(t.Context(), "hall")
		_, _ = m.Leave(t.Context(), c.ID(), "hall")
	}), 5.0)
}
