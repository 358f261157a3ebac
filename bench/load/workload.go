//go:build linux

package load

import "time"

// Workload describes a run. In each field, zero means none.
type Workload struct {
	Name string

	// There are Rooms rooms with Members members each. With Direct no message goes to a room: each
	// client is a group that receives messages from its neighbour.
	Rooms   int
	Members int
	Direct  bool

	Size int // size of a message in bytes
	// Deflate asks the server to compress, and makes the clients offer compression. The clients
	// send uncompressed. An uncompressed delivery is an error.
	Deflate bool
	// TLS asks the server for TLS 1.3, which only the servers in Go have.
	TLS bool
	// Burst is the number of messages that one member of each group sends at once. When all of them
	// have been delivered, the next member does the same.
	Burst int
	// Window is the number of messages in flight for each group. The members take turns: the next
	// message is sent as soon as one has been delivered. Alternative to Burst.
	Window int
	// Rate is the number of messages per second over all groups, at equal intervals. Alternative to
	// Burst.
	Rate float64
	// Inbound is the number of messages that a client sends at once, without a receiver except for
	// the last one, which it sends to itself. When that one arrives, it sends again. Alternative to
	// Burst.
	Inbound int

	// App marks the workloads that are also measured with the server realtime-app, which has the
	// permissions and the handlers of an application.
	App bool

	// Stalled is the number of additional members of the first room that do not read.
	Stalled int

	Storm bool          // measure only the opening of the connections
	Idle  time.Duration // measure only the memory after this time
	// Awake makes the generator poll without sleeping, which needs a separate core. The kernel
	// charges the sender for waking a sleeping receiver. On one machine this depends more on the
	// speed of the generator than on that of the server.
	Awake bool
	Procs int           // GOMAXPROCS of the server; zero: as in the environment
	Warm  time.Duration // load before the measured interval
	For   time.Duration // the measured interval
}

// conns returns the number of connections that read.
func (w *Workload) conns() int { return w.Rooms * w.Members }

// Workloads returns the workloads of the matrix, in order.
func Workloads() []Workload {
	const warm, span = time.Second, 4 * time.Second
	ws := []Workload{
		{Name: "burst-128", Rooms: 1, Members: 1000, Size: 128, Burst: 16},
		{Name: "burst-1k", Rooms: 1, Members: 1000, Size: 1 << 10, Burst: 16},
		{Name: "compressed", Rooms: 1, Members: 1000, Size: 1 << 10, Burst: 16, Deflate: true},
		{Name: "burst-16k", Rooms: 1, Members: 1000, Size: 16 << 10, Burst: 16},
		{Name: "stream-128", Rooms: 1, Members: 1000, Size: 128, Window: 16},
		{Name: "paced", Rooms: 1, Members: 1000, Size: 128, Rate: 20},
		{Name: "rooms-200x10", Rooms: 200, Members: 10, Size: 128, Burst: 4, App: true},
		{Name: "rooms-2000x5", Rooms: 2000, Members: 5, Size: 128, Burst: 1, App: true},
		{Name: "growth-100", Rooms: 1, Members: 100, Size: 128, Burst: 16},
		{Name: "growth-10000", Rooms: 1, Members: 10000, Size: 128, Burst: 16},
		{Name: "stream-10000", Rooms: 1, Members: 10000, Size: 128, Window: 16},
		{Name: "direct", Rooms: 1, Members: 2000, Direct: true, Size: 128, Burst: 1, App: true},
		{Name: "inbound", Rooms: 1, Members: 100, Direct: true, Size: 128, Inbound: 32,
			App: true},
		{Name: "stalled-0", Rooms: 1, Members: 999, Size: 1 << 10, Rate: 40},
		{Name: "stalled-1", Rooms: 1, Members: 999, Size: 1 << 10, Rate: 40, Stalled: 1},
		{Name: "storm", Rooms: 200, Members: 10, Storm: true},
		{Name: "idle", Rooms: 1000, Members: 10, Idle: time.Minute},
		{Name: "burst-tls", Rooms: 1, Members: 1000, Size: 128, Burst: 16, TLS: true},
		{Name: "idle-tls", Rooms: 1000, Members: 10, Idle: time.Minute, TLS: true},
	}
	for i := range ws {
		ws[i].Warm, ws[i].For = warm, span
	}
	return ws
}

// Small returns a smaller form of the workload, for a smoke test.
func (w Workload) Small() Workload {
	w.Rooms = min(w.Rooms, 10)
	w.Members = min(w.Members, 50)
	w.Warm, w.For = min(w.Warm, 10*time.Millisecond), min(w.For, 60*time.Millisecond)
	w.Idle = min(w.Idle, 50*time.Millisecond)
	return w
}
