//go:build linux

package load

import "time"

// Workload is what a run does. The zero value of a field means that there is none of it.
type Workload struct {
	Name string

	// Rooms of Members each are opened. With Direct the rooms have nothing to say, and
	// each client is a group of its own that its neighbour writes to.
	Rooms   int
	Members int
	Direct  bool

	Size int // bytes in a message
	// Deflate asks the server to compress what it sends, and its clients offer to take it.
	// They do not compress. It is an error if a delivery comes as it is.
	Deflate bool
	// Burst is how many messages one member of each group sends at once; when all of
	// them have come to everybody, the next member does the same.
	Burst int
	// Window is how many messages are in flight for each group, each sent by another
	// member: the next one goes out as soon as one has arrived. In place of Burst.
	Window int
	// Rate is how many messages are sent a second in all, at even distances, in place
	// of Burst.
	Rate float64
	// Inbound is how many messages a client sends to nobody at once; the last of them he
	// sends to himself, and when that comes he begins again. In place of Burst.
	Inbound int

	// Stalled is how many more members of the first room do not read.
	Stalled int

	Storm bool          // measure the opening of the connections, and nothing else
	Idle  time.Duration // measure the memory after so long, and nothing else
	// Awake says that the generator never sleeps. It needs a core of its own for that. A
	// kernel that has to wake whoever receives charges that to whoever sends, which on one
	// machine says more about the speed of the generator than about that of the server.
	Awake bool
	Warm  time.Duration // load before the measured interval
	For   time.Duration // the measured interval
}

// conns is how many connections the workload has that read.
func (w *Workload) conns() int { return w.Rooms * w.Members }

// Workloads are what the matrix runs, in this order.
func Workloads() []Workload {
	const warm, span = time.Second, 4 * time.Second
	ws := []Workload{
		{Name: "burst-128", Rooms: 1, Members: 1000, Size: 128, Burst: 16},
		{Name: "burst-1k", Rooms: 1, Members: 1000, Size: 1 << 10, Burst: 16},
		{Name: "compressed", Rooms: 1, Members: 1000, Size: 1 << 10, Burst: 16, Deflate: true},
		{Name: "burst-16k", Rooms: 1, Members: 1000, Size: 16 << 10, Burst: 16},
		{Name: "stream-128", Rooms: 1, Members: 1000, Size: 128, Window: 16},
		{Name: "paced", Rooms: 1, Members: 1000, Size: 128, Rate: 20},
		{Name: "rooms-200x10", Rooms: 200, Members: 10, Size: 128, Burst: 4},
		{Name: "rooms-2000x5", Rooms: 2000, Members: 5, Size: 128, Burst: 1},
		{Name: "growth-100", Rooms: 1, Members: 100, Size: 128, Burst: 16},
		{Name: "growth-10000", Rooms: 1, Members: 10000, Size: 128, Burst: 16},
		{Name: "stream-10000", Rooms: 1, Members: 10000, Size: 128, Window: 16},
		{Name: "direct", Rooms: 1, Members: 2000, Direct: true, Size: 128, Burst: 1},
		{Name: "inbound", Rooms: 1, Members: 100, Direct: true, Size: 128, Inbound: 32},
		{Name: "stalled-0", Rooms: 1, Members: 999, Size: 1 << 10, Rate: 40},
		{Name: "stalled-1", Rooms: 1, Members: 999, Size: 1 << 10, Rate: 40, Stalled: 1},
		{Name: "storm", Rooms: 200, Members: 10, Storm: true},
		{Name: "idle", Rooms: 1000, Members: 10, Idle: time.Minute},
	}
	for i := range ws {
		ws[i].Warm, ws[i].For = warm, span
	}
	return ws
}

// Small returns the workload cut to what a smoke run can afford.
func (w Workload) Small() Workload {
	w.Rooms = min(w.Rooms, 10)
	w.Members = min(w.Members, 50)
	w.Warm, w.For = min(w.Warm, 10*time.Millisecond), min(w.For, 60*time.Millisecond)
	w.Idle = min(w.Idle, 50*time.Millisecond)
	return w
}
