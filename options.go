package realtime

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/ratelimit"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/session"
)

// Options configures a Manager. The zero value of each field is its default. A negative number or
// duration means off, or no limit. The zero Options are secure: only pages of the same origin may
// connect, all connections are anonymous, and each request of a client is refused.
type Options struct {
	// Authenticate returns the identity behind a request that opens a connection, before the
	// upgrade. An error that matches ErrForbidden is answered with 403, any other with 401; its text
	// is not sent. Authenticate may block: only this request waits. If User.Disconnect is called for
	// the user meanwhile, the connection is refused. Nil: all connections are anonymous.
	Authenticate func(*http.Request) (Identity, error)
	// ConnContext returns the context from which the context of a connection is derived, to carry
	// values. It is called after Authenticate, must derive the context from ctx, and else makes the
	// request panic. It must copy what it takes from the request: r and r.Context() belong to the
	// request, and routers use them again. The context of a connection ends with the connection and
	// has no other values of the request. Nil: no values.
	ConnContext func(ctx context.Context, r *http.Request) context.Context
	// Revalidate returns a new identity of the same user. It is called with an empty token when an
	// identity has expired, and with the token that a client of realtime.v1 sends. Any error refuses
	// the renewal. After a token was accepted, the rooms that the client asked for are authorised
	// again, and it leaves those that are refused. Revalidate may block and may run at the same time
	// as a handler; ctx is that of the connection. Nil: see [Conn.Renew].
	Revalidate func(ctx context.Context, c *Conn, token string) (Identity, error)
	// Authorize decides about each request of a client. Nil refuses all. Calls of the application
	// are not authorised.
	Authorize Authorizer

	// OnConnect, OnMessage, OnCall and OnDisconnect are called for events, see their types. Nil:
	// each client may connect, messages are sent to their targets, and no method exists. A [Router]
	// has typed handlers for OnMessage and OnCall, by name.
	OnConnect    ConnectFunc
	OnMessage    MessageFunc
	OnCall       Handler
	OnDisconnect DisconnectFunc

	// Announce selects the notices about users that clients get. Zero: none. A notice is a message
	// to each connection in its scope.
	Announce Announce

	// Origins lists the origins whose pages may connect, in addition to those of the host itself:
	// "https://app.example.com", "https://*.example.com". Browsers and web views send "null" or
	// "file://" for pages from files; note that any page can have the origin "null", in a sandboxed
	// frame. New panics if an entry is not an origin. The REST handler uses the same list.
	Origins []string
	// InsecureAnyOrigin lets each page on the web connect with the cookies of your users.
	InsecureAnyOrigin bool
	// RequireOrigin refuses connections without an Origin header. All browsers send it; other
	// programs need not.
	RequireOrigin bool
	// AllowedHosts lists the host names that requests may be for, without ports:
	// "app.example.com", "*.example.com". It refuses pages whose name was made to resolve to this
	// server (DNS rebinding). New panics if an entry is not such a name. Nil: each name is allowed,
	// but on a loopback address only the names of the machine itself, unless the request came
	// through a proxy.
	AllowedHosts []string
	// TrustProxies lists the proxies before this server by address, "10.0.0.7" or "10.0.0.0/8", or
	// "unix" for all peers at a Unix socket. Their X-Forwarded-For sets the address that limits
	// count for and that Info has, and their X-Forwarded-Proto ("https" or "wss") says whether a
	// page must have come over TLS. They must set or extend both headers. New panics if an entry is
	// not an address. Nil: no proxy is trusted.
	TrustProxies []string

	// Limits bounds what connections may use, and Timeouts how long they may take.
	Limits   Limits
	Timeouts Timeouts
	// UserFull is what happens to a connection beyond Limits.ConnsPerUser: UserFullRefuse.
	UserFull UserFull

	// CompressFrom is the size in bytes from which messages are compressed for the clients that
	// offer it, which browsers do (permessage-deflate without context takeover, RFC 7692). 512 is a
	// good value. Zero or negative: compression is not negotiated.
	//
	// The goroutine that calls Send compresses a message once for all receivers: 1 KiB of JSON in
	// about 14 µs to a third, 16 KiB in 100 µs to a quarter. A compressor takes 1.2 MB, and there is
	// one for each message that is compressed at the same time. Clients may compress too:
	// Limits.MessageBytes and InboundBytes apply to the uncompressed message. While a message is
	// read, decompressing takes 40 KiB, and 4 KiB of that stay with the connection.
	//
	// Leave compression off if a message contains a secret and text that another person chose. Its
	// size reveals the one through the other (CRIME, BREACH).
	CompressFrom int

	// Slow is what happens to a message for a connection whose queue is full: SlowDisconnect, and
	// SlowCatchUp in rooms that keep history.
	Slow SlowPolicy
	// History is how much rooms keep. A connection that joins can get the newest messages first, and
	// a client that reconnects gets what it missed. Zero Messages: nothing.
	History Retention
	// Inbox is what is kept for users who have no connection. Zero: nothing.
	Inbox InboxOptions
	// Room returns the options of one room. It is called with no lock held: for each join, and for a
	// message to a room without members. Its result for the first member applies until the last
	// one has left. Nil: each room has the options above.
	Room func(name string) RoomOptions

	// Broker keeps the messages of rooms and inboxes, and carries messages between processes. Nil:
	// the process is alone and keeps them in memory, see package broker/memory.
	Broker broker.Broker
	// Logger gets a line for each connection that ended and for each error of a client, but of what
	// comes from one address no more than one line of a kind a second; the next line has the number
	// of those left out. A line never has the content of a message. The levels are: Debug, ordinary
	// ends of connections and refused requests of clients; Info, connections that the server ended
	// because of the client; Warn, missing configuration, and dead letters; Error, panics of
	// handlers, and errors of the broker. Nil: slog.Default().
	Logger *slog.Logger
}

// Limits bounds what connections may use. The zero value of each field is its default, a negative
// number is no limit.
type Limits struct {
	Conns        int // connections in all: 100,000
	ConnsPerUser int // connections of one user: 100, see Options.UserFull
	// ConnsPerIP bounds the connections of one address: 1000. HandshakeRatePerIP bounds its attempts
	// to connect a second: 50, and HandshakeRate those of all addresses: 2000. The attempts of ten
	// seconds may come at once. An IPv6 address counts by its /64. Loopback and private addresses
	// often belong to proxies: for them the two limits of an address apply only if they are set.
	// Beyond a limit the answer is 429 or 503.
	ConnsPerIP         int
	HandshakeRatePerIP int
	HandshakeRate      int
	RoomsPerConn       int // rooms of one connection: 100
	// MessageBytes bounds a message from a client: 64 KiB. A larger one ends the connection with
	// 1009. While a message is incomplete, 1 KiB of it must arrive each second: if less arrives for
	// 10 s, the connection ends with 1008. Over TLS it is 26 s, because a record is visible only as a
	// whole.
	MessageBytes int

	// InboundRate is how many messages a client may send each second: 200. InboundBytes is how many
	// bytes: 1 MiB. InboundFanout is how many receivers its messages may have together: 250,000;
	// each message to a room of 10,000 counts 10,000. The requests of a client count too: lists of
	// members and kept messages as bytes and receivers, notices of its joins as receivers, each room
	// that is authorised again as a message. What OnMessage sends does not count.
	//
	// Ten seconds' worth may come at once, but not more messages and bytes than half of
	// QueueMessages and QueueBytes. Beyond the limit the client is read more slowly, and nothing is
	// lost. A client that goes on like that for ten seconds, without waiting for answers, is ended
	// with code 4429.
	InboundRate   int
	InboundBytes  int
	InboundFanout int

	// QueueMessages and QueueBytes bound the send queue of a connection: 1000 messages, 4 MiB. See
	// Options.Slow.
	QueueMessages int
	QueueBytes    int
	// MemoryBytes bounds the memory of all connections together: 256 MiB. It includes queued
	// messages, each once for all its receivers; messages that are being read or wait for a handler;
	// the ids of messages that clients sent in the last two minutes, at most a quarter, or a half if
	// there are very many senders; detached sessions, see Timeouts.Resume; and the messages to
	// several targets that a lagging connection was given.
	//
	// When seven eighths are in use, the connections that would take the longest to read their
	// queues are ended with code 4300, within half a second, until a quarter is free. Answers that
	// clients asked for and do not read may take a quarter: beyond that, requests for lists and kept
	// messages wait, and the connections with the most unread answers are ended. When all is in use,
	// notices are dropped and new connections are refused with 503 or ErrOverloaded. Messages are
	// never refused, so they can exceed the bound for a moment. The process takes more memory than
	// this: three to five times as much was measured under attack, with the default of the garbage
	// collector.
	MemoryBytes int
}

// Timeouts bounds how long connections may take. The zero value of each field is its default. A
// negative duration turns the timeout off, unless its comment says otherwise.
type Timeouts struct {
	// Ping is after how much silence a client is pinged: 25 s, which is less than the 60 s after
	// which common proxies cut a silent connection; it is at most a third of Stale. Pong is how long
	// the answer may take: 10 s, and a second more for each KiB queued before the ping, up to 96.
	// So a dead peer with an empty queue is found after at most Ping + Pong. A peer that reads what
	// had to wait for it is alive.
	Ping time.Duration
	Pong time.Duration
	// Stale is after how much silence a connection is ended whatever Ping and Pong are: 300 s. Each
	// frame is a sign of life, and so is reading what had to wait. Sweep is the interval of this
	// check: 60 s.
	Stale time.Duration
	Sweep time.Duration
	// Write is how long a client may read nothing of its queue: 10 s, and a second more for each KiB
	// that was sent to it last, up to 96, because that may still be in buffers on the way. So a
	// client that reads 1 KiB a second is not ended. Negative means the default.
	Write time.Duration
	// Drain is the time over which Shutdown spreads the close frames to plain clients, so that they
	// do not reconnect at once: 10 s, or a millisecond for each client if that is less. Negative:
	// all at once. Clients of realtime.v1 spread their reconnects themselves.
	Drain time.Duration
	// Resume is how long a session of realtime.v1 stays in its rooms after its connection was lost,
	// timed out or was too slow: 15 s. A client that reconnects within that time resumes its session,
	// and no notice is sent. Detached sessions take at most a quarter of Limits.MemoryBytes: beyond
	// that, and while memory is short, a lost connection leaves its rooms at once. A user at
	// Limits.ConnsPerUser can resume only a session that the server knows to be lost.
	Resume time.Duration
	// Expiry is how long a connection continues after its identity has expired and was not renewed,
	// before it is closed with code 4401: 10 s. Negative: it is closed at once.
	Expiry time.Duration
}

// Announce says which comings and goings are announced. Values are added with |.
type Announce uint8

// The scopes of announcements.
const (
	// AnnounceUsers tells everybody when a user's first connection opens and when his
	// last one ends.
	AnnounceUsers Announce = 1 << iota
	// AnnounceRooms tells the members of a room when a user's first connection joins
	// it and when his last one leaves it.
	AnnounceRooms
)

// UserFull is what happens when a user has as many connections as he may.
type UserFull uint8

// What happens to a connection beyond Limits.ConnsPerUser.
const (
	// UserFullRefuse refuses the new connection with 429 or ErrTooManyConns.
	UserFullRefuse UserFull = iota
	// UserFullReplace opens it, and then ends the user's oldest one with code 4409.
	UserFullReplace
)

const (
	second = time.Second
	// pingRate and pingBurst are how many pings a client may send each second.
	pingRate, pingBurst = 20, 50
)

// resolved returns a copy in which every default is filled in, and a number that
// means "off" is zero.
func (o *Options) resolved() Options {
	var r Options
	if o != nil {
		r = *o
	}
	defaults.Set(&r.Limits.Conns, 100_000)
	defaults.Set(&r.Limits.ConnsPerUser, 100)
	defaults.Set(&r.Limits.RoomsPerConn, 100)
	defaults.Set(&r.Limits.MessageBytes, 64<<10)
	defaults.Set(&r.Limits.InboundRate, 200)
	defaults.Set(&r.Limits.InboundBytes, 1<<20)
	defaults.Set(&r.Limits.InboundFanout, 250_000)
	defaults.Set(&r.CompressFrom, 0)
	defaults.Set(&r.Limits.QueueMessages, sendqueue.DefaultMaxMessages)
	defaults.Set(&r.Limits.QueueBytes, sendqueue.DefaultMaxBytes)
	defaults.Set(&r.Limits.MemoryBytes, 256<<20)
	defaults.Set(&r.Timeouts.Ping, 25*second)
	defaults.Set(&r.Timeouts.Pong, 10*second)
	defaults.Set(&r.Timeouts.Stale, 300*second)
	defaults.Set(&r.Timeouts.Sweep, 60*second)
	defaults.Set(&r.Timeouts.Drain, 10*second)
	defaults.Set(&r.Timeouts.Expiry, 10*second)
	defaults.Set(&r.Timeouts.Resume, 15*second)
	if r.Timeouts.Stale > 0 && r.Timeouts.Ping > r.Timeouts.Stale/3 {
		r.Timeouts.Ping = r.Timeouts.Stale / 3
	}
	if r.Timeouts.Write <= 0 {
		r.Timeouts.Write = sendqueue.DefaultWriteTimeout
	}
	for _, limit := range []*int{&r.Limits.QueueMessages, &r.Limits.QueueBytes, &r.Limits.MessageBytes} {
		if *limit == 0 {
			*limit = math.MaxInt
		}
	}
	if r.Broker == nil {
		r.Broker = memory.New(nil)
	}
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	return r
}

// keeps reports whether anything may be kept.
func (o *Options) keeps() bool {
	return o.History.Messages > 0 || o.Inbox.Keep.Messages > 0 || o.Room != nil
}

// newLimits lets no client send at once what would fill half of a receiver's queue. It could end the
// other members of its room with it, which have had no time to read.
func newLimits(o *Options) session.Limits {
	return session.Limits{
		Messages: ratelimit.PerSecond(o.Limits.InboundRate).WithBurst(o.Limits.QueueMessages / 2),
		Bytes:    ratelimit.PerSecond(o.Limits.InboundBytes).WithBurst(o.Limits.QueueBytes / 2),
		Fanout:   ratelimit.PerSecond(o.Limits.InboundFanout),
		Pings:    ratelimit.PerSecond(pingRate).WithBurst(pingBurst),
	}
}

// policy returns the policy of a room that comes into being. It calls code of the application, so
// no lock may be held.
func (o *Options) policy(room string) recovery.Policy {
	slow, history := o.Slow, o.History
	if o.Room != nil {
		own := o.Room(room)
		if own.Slow != SlowDefault {
			slow = own.Slow
		}
		if own.History.Messages != 0 {
			history = own.History
		}
	}
	return newPolicy(slow, history)
}

func newPolicy(slow SlowPolicy, history Retention) recovery.Policy {
	p := recovery.Policy{Queue: slow.queue(), Keep: broker.Retention(history.resolved())}
	switch {
	case p.Keep.Messages == 0:
		p.Keep = broker.Retention{}
	case slow == SlowDefault || slow == SlowCatchUp:
		p.Queue, p.Priority, p.CatchUp = sendqueue.DropNewest, sendqueue.Vital, true
	case slow != SlowDisconnect:
		p.Lossy = true
	}
	return p
}

// SlowPolicy says what happens to a message for a connection whose queue is full,
// because its peer reads more slowly than it is written to.
type SlowPolicy uint8

// The policies. Whatever is dropped is counted in [Stats].
const (
	// SlowDefault is Options.Slow for a room. For Options.Slow it is SlowCatchUp in rooms that keep
	// history, and SlowDisconnect.
	SlowDefault SlowPolicy = iota
	// SlowDisconnect ends the connection with code 4300. The client comes back and
	// knows that it has missed something.
	SlowDisconnect
	// SlowDropOldest drops what has waited longest: for data of which only the
	// latest counts.
	SlowDropOldest
	// SlowDropNewest drops the message at hand.
	SlowDropNewest
	// SlowCatchUp is for rooms that keep history, and their default unless Options.Slow says
	// otherwise: a member who cannot keep up gets what he has missed from history as soon as he has
	// read most of what waits for him, as fast as he reads it. Only what is not kept any more by then
	// is lost for him, and he is told. In other rooms it is SlowDisconnect.
	SlowCatchUp
)

func (p SlowPolicy) queue() sendqueue.Policy {
	switch p {
	case SlowDropOldest:
		return sendqueue.DropOldest
	case SlowDropNewest:
		return sendqueue.DropNewest
	default:
		return sendqueue.Disconnect
	}
}
