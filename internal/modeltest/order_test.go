package modeltest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// These checks must succeed after a storm, in whatever order its acts happened.

// checkRosters compares all rosters and counts with the remaining connections.
func (s *storm) checkRosters() {
	left := s.remaining()
	users, inRoom := make(map[string]int), make(map[string][]string)
	usersIn := make(map[string][]string)
	var all []string
	for _, e := range left {
		require.Same(s.t, e.conn, s.rt.Conn(e.conn.ID()))
		all = append(all, e.conn.ID())
		if e.user != "" {
			users[e.user]++
		}
		for _, room := range e.conn.Rooms() {
			inRoom[room] = append(inRoom[room], e.conn.ID())
			if e.user != "" && !slices.Contains(usersIn[room], e.user) {
				usersIn[room] = append(usersIn[room], e.user)
			}
		}
	}
	require.ElementsMatch(s.t, all, connIDs(slices.Collect(s.rt.LocalConns())))
	require.ElementsMatch(s.t, slices.Collect(maps.Keys(inRoom)), slices.Collect(s.rt.LocalRooms()))
	for _, room := range rooms {
		members, _ := s.rt.Room(room).Users(s.ctx)
		require.ElementsMatch(s.t, usersIn[room], members)
		count, _ := s.rt.Room(room).Count(s.ctx)
		require.Equal(s.t, realtime.Count{Users: len(members), Conns: len(inRoom[room])}, count)
		require.ElementsMatch(s.t, inRoom[room],
			connIDs(slices.Collect(s.rt.Room(room).LocalConns())))
	}
	for _, user := range stormUsers {
		n, _ := s.rt.User(user).Count(s.ctx)
		require.Equal(s.t, users[user], n, user)
	}
	stats := s.rt.Stats()
	require.Equal(s.t, []int{len(left), len(users), len(inRoom)},
		[]int{stats.Conns, stats.Users, stats.Rooms})
}

// checkRooms sends to each room once more: all members receive the message, and no other
// connection.
func (s *storm) checkRooms() {
	for _, room := range rooms {
		_, err := s.rt.Send(s.ctx, realtime.ToRoom(room), realtime.Chat("", "last/1/"+room))
		require.NoError(s.t, err)
	}
	s.drain()
	for _, e := range s.remaining() {
		for _, room := range rooms {
			require.Equal(s.t, slices.Contains(e.conn.Rooms(), room),
				slices.Contains(e.got, "last/1/"+room), "a message to %s", room)
		}
	}
}

// checkCounts checks that every frame is counted, and that a tight storm dropped frames.
func (s *storm) checkCounts() {
	stats := s.rt.Stats()
	dropped := stats.DroppedOldest + stats.DroppedNewest + stats.DroppedNotices
	require.Equal(s.t, stats.Matched, stats.Written+dropped+stats.Lost)
	require.Zero(s.t, stats.Conns+stats.Users+stats.Rooms)
	require.Zero(s.t, stats.Panics)
	require.Equal(s.t, s.tight, dropped > 0)
	var read uint64
	for _, e := range s.all {
		read += e.n
	}
	// A write that the end interrupts counts as lost, but may have been read.
	require.GreaterOrEqual(s.t, read, stats.Written)
	require.LessOrEqual(s.t, read, stats.Matched)
}

// checkOrder checks that no message was received twice, that the messages of each sender arrived in
// its order, and that messages with a common channel have the same order for all receivers.
func (s *storm) checkOrder() {
	channels := make(map[string][][]string) // by channel: what each connection has read
	for _, e := range s.all {
		last := make(map[string]int)
		mine := make(map[string][]string)
		for _, text := range e.got {
			part := strings.SplitN(text, "/", 3)
			n, err := strconv.Atoi(part[1])
			require.NoError(s.t, err)
			if part[0] != "last" {
				require.Greater(s.t, n, last[part[0]], "order of %s", part[0])
				last[part[0]] = n
			}
			for channel := range strings.SplitSeq(part[2], "|") {
				if mine[channel] == nil || mine[channel][len(mine[channel])-1] != text {
					mine[channel] = append(mine[channel], text)
				}
			}
		}
		for channel, texts := range mine {
			channels[channel] = append(channels[channel], texts)
		}
	}
	for channel, readers := range channels {
		for i, a := range readers {
			for _, b := range readers[i+1:] {
				require.Equal(s.t, common(a, b), common(b, a), "order in %s", channel)
			}
		}
	}
}

// common returns the elements of a that are in b.
func common(a, b []string) (both []string) {
	in := make(map[string]bool, len(b))
	for _, text := range b {
		in[text] = true
	}
	for _, text := range a {
		if in[text] {
			both = append(both, text)
		}
	}
	return both
}

// checkPresence checks the notices that each connection received. A tight storm drops notices, so
// it checks nothing then.
func (s *storm) checkPresence() {
	if s.tight {
		return
	}
	s.drain()
	for _, e := range s.remaining() {
		told := make(map[string]string) // the last notice about each user
		for _, n := range e.seen {
			if n.room != "" {
				continue
			}
			require.NotEqual(s.t, e.user, n.user, "a notice about itself")
			require.NotEqual(s.t, told[n.user], n.what, "two equal notices about %s", n.user)
			told[n.user] = n.what
		}
		for user, what := range told {
			n, _ := s.rt.User(user).Count(s.ctx)
			require.Equal(s.t, n > 0, what == "userjoined", "%s of %s", what, user)
		}
		s.checkRoomsSeen(e)
	}
	s.checkHomes()
}

// checkRoomsSeen checks the notices of the rooms of e: the last one about a user must be true.
// Notices before the last join of e do not count.
func (s *storm) checkRoomsSeen(e *end) {
	if e.user == "" { // e cannot distinguish its own join from that of another
		return
	}
	last := make(map[notice]string)
	for _, n := range e.seen {
		switch {
		case n.room == "" || n.user == "":
		case n.user == e.user:
			maps.DeleteFunc(last, func(old notice, _ string) bool { return old.room == n.room })
		default:
			last[notice{user: n.user, room: n.room}] = n.what
		}
	}
	for n, what := range last {
		if !slices.Contains(e.conn.Rooms(), n.room) {
			continue
		}
		members, _ := s.rt.Room(n.room).Users(s.ctx)
		require.Equal(s.t, slices.Contains(members, n.user), what == "room_join",
			"%s of %s in %s", what, n.user, n.room)
	}
}

// checkHomes checks that the connections that were open all the time received all messages to all.
func (s *storm) checkHomes() {
	for _, e := range s.all {
		if !e.home {
			continue
		}
		require.ElementsMatch(s.t, s.toAll, slices.DeleteFunc(slices.Clone(e.got),
			func(text string) bool { return !slices.Contains(s.toAll, text) }))
	}
}
