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

// Options configures a Manager. The zero value of every field is its default; for
// numbers and durations a negative value means off or without limit. The zero
// Options are secure: same-origin pages only, everybody anonymous, and every action
// of a client refused.
type Options struct {
	// Authenticate finds out who opens a connection, before the upgrade. An error that
	// matches ErrForbidden answers 403, any other 401; its text is not sent. It may
	// block: only this request waits. A user who is thrown out by User.Disconnect while it
	// runs is refused. Nil: everybody is anonymous.
	Authenticate func(*http.Request) (Identity, error)
	// ConnContext chooses the values that the context of a connection carries. It is called after
	// Authenticate with the request that opens the connection, and returns a context derived from
	// ctx; with another one it panics. What it takes out of the request it must copy: r and
	// r.Context() are the request's, and routers use them again for others. The connection's
	// context ends with the connection, and has no other values of the request. Nil: none.
	ConnContext func(ctx context.Context, r *http.Request) context.Context
	// Revalidate renews an identity: when it has expired, with an empty token, and when a
	// client of realtime.v1 sends a new token. Any error refuses that. What it returns must be
	// of the same user. Rooms that the client has asked for are authorised anew when it sent
	// a token, and left if that fails. It may block, and may run beside
	// a handler; ctx is the connection's. Nil: see [Conn.Renew].
	Revalidate func(ctx context.Context, c *Conn, token string) (Identity, error)
	// ExpiryGrace is for how long a connection goes on whose identity has expired and was not
	// renewed, before it is closed with code 4401: 10 s. Negative: not at all.
	ExpiryGrace time.Duration
	// Authorize decides about everything that a client asks for. Nil refuses all.
	// What the application does itself (Send, Join, …) needs no leave.
	Authorize Authorizer

	// OnConnect, OnMessage, OnCall and OnDisconnect see what happens, see their types. Nil:
	// everybody may connect, messages go where they are sent, and no method is known. A
	// [Router] has the two in the middle by name and with types.
	OnConnect    ConnectFunc
	OnMessage    MessageFunc
	OnCall       Handler
	OnDisconnect DisconnectFunc

	// Announce says which comings and goings clients are told of. Zero: none. Each
	// one is a message to everybody in its scope, so think twice in large ones.
	Announce Announce

	// Origins lists the pages that may connect beside those of the same host, as full
	// origins: "https://app.example.com", "https://*.example.com". "null" and "file://" are what
	// browsers and web views say of pages that were opened from files; any page on the web can
	// make itself one of "null", by a sandboxed frame. New panics if one is not an origin. The
	// REST handler goes by the same list.
	Origins []string
	// InsecureAnyOrigin lets any page on the web connect with your users' cookies.
	InsecureAnyOrigin bool
	// RequireOrigin refuses connections of clients that name no origin, which only browsers must.
	RequireOrigin bool
	// AllowedHosts lists the names under which the server may be asked for, without
	// ports: "app.example.com", "*.example.com". It keeps pages out that were made to
	// resolve to this server (DNS rebinding). Nil: every name, but on a loopback address
	// only the machine's own, unless the request came through a proxy. New panics if one
	// is not such a name.
	AllowedHosts []string
	// TrustProxies lists the proxies in front of the server by address, "10.0.0.7" or
	// "10.0.0.0/8", or "unix" for all who connect through a Unix socket. Their
	// X-Forwarded-For says whom limits for an address are for and what RemoteAddr
	// is, and their X-Forwarded-Proto ("https" or "wss") whether a page must come over TLS.
	// They must set or extend both. New panics if an entry is not an address. Nil: nobody is believed.
	TrustProxies []string

	MaxConns        int // connections in all: 100,000
	MaxConnsPerUser int // connections of one user: 100
	// UserFull is what happens to a connection beyond MaxConnsPerUser: UserFullRefuse.
	UserFull UserFull
	// MaxConnsPerIP bounds the connections of one address: 1000. HandshakeRatePerIP is how
	// many attempts to connect a second it may make: 50, and HandshakeRate how many all may
	// make together: 2000; ten seconds' worth may come at once. An IPv6 address is its /64.
	// For loopback and private addresses, which are most often a proxy's, the two for an
	// address hold only if they are set. Beyond them the answer is 429 or 503.
	MaxConnsPerIP      int
	HandshakeRatePerIP int
	HandshakeRate      int
	MaxRoomsPerConn    int // rooms that one connection is in: 100
	// MaxMessageBytes bounds a message from a client: 64 KiB; more ends it with 1009. It must go on,
	// at 1 KiB a second: one of which less has come for 10 s ends the connection with 1008. Over
	// TLS 26 s, as nothing of a record is seen before all of it has come.
	MaxMessageBytes int

	// CompressFrom is from how many bytes on a message is compressed for the clients that
	// offer it, as browsers do (permessage-deflate, RFC 7692, without context takeover):
	// 512 is a good value. Zero or negative: compression is not negotiated.
	//
	// A message is compressed once, however many receive it, by the goroutine that calls
	// Send: 1 KiB of JSON in about 14 µs to a third, 16 KiB in 100 µs to a quarter. A
	// compressor takes 1.2 MB, and there are as many as messages compressed at a time.
	// What clients send may be compressed too: MaxMessageBytes and InboundBytes hold for
	// what is inside. To read a message takes 40 KiB until it is complete, and 4 KiB of
	// its connection's from then on.
	//
	// Leave it off where a message has a secret beside text that somebody else chose: its
	// size tells the one about the other (CRIME, BREACH).
	CompressFrom int

	// InboundRate is how many messages a second a client may send, InboundBytes how many
	// bytes, and InboundFanout how many receivers its messages may have together, each
	// counted as often as it gets one: a message to a room of 10,000 is as much work as 10,000
	// to one user. What a client asks the Manager for counts like what it sends: lists of members
	// and kept messages in bytes and receivers, announcements of its joins as receivers, and each
	// room that Authorize is asked about again as a message. What OnMessage sends does not count.
	// Ten seconds' worth may come at once, but not more messages and bytes than half of
	// QueueMessages and QueueBytes. What comes
	// faster waits, so nothing is lost; a client that does not wait for the answers meanwhile
	// and for which that goes on for ten seconds is ended with code 4429. 200 messages, 1 MiB,
	// 250,000 receivers.
	InboundRate   int
	InboundBytes  int
	InboundFanout int

	// QueueMessages and QueueBytes bound what waits to be written to one client: 1000
	// messages, 4 MiB. Slow is what happens beyond: SlowDisconnect.
	QueueMessages int
	QueueBytes    int
	Slow          SlowPolicy
	// MemoryBudget bounds what waits to be written over all connections, in bytes of memory,
	// where what many wait for counts once; messages that are being read, or wait for a handler; the ids of messages
	// that clients have sent within two minutes, which take a quarter, and at most a half if they
	// come from very many senders; connections that were lost and may come back, see ResumeGrace;
	// and which messages to several targets a connection that catches up has got: 256 MiB.
	//
	// From seven eighths of it on the connections that would take the longest to read what waits
	// for them are ended with code 4300, within half a second and no more than needed, until a
	// quarter is free. Answers that clients have asked for and do not read may take a quarter:
	// beyond that requests for lists and kept messages wait, and connections that do not read
	// theirs are ended. Where the whole budget is used up, announcements are dropped, and new
	// connections are refused with 503 or ErrOverloaded. A message is not refused, so that what
	// is sent meanwhile comes on top. The process takes more than that: under attack three to
	// five times as much was measured, with the garbage collector's default. Negative: off.
	MemoryBudget int
	// History is how much rooms keep: who joins can have the newest messages first, and a client
	// that comes back gets what it has missed. Zero Messages: nothing is kept.
	History Retention
	// Inbox is what is kept for users who are away. Zero: nothing.
	Inbox InboxOptions
	// Room returns what is special about a room. It is called for each join, and for a message to a
	// room that nobody is in, with no lock held; what it says when a room gets its first member
	// holds until the last has left. Nil: nothing is special.
	Room func(name string) RoomOptions

	// ResumeGrace is for how long a connection of realtime.v1 that was lost, timed out or was too
	// slow is still shown in its rooms and among the users: 15 s. A client that comes back within
	// that time goes on where it was, and nobody hears of it. What that takes is in the
	// MemoryBudget, a quarter of it at most; beyond that, and while memory is short, a connection
	// that is lost is gone at once. Negative: off. A user who has as many
	// connections as he may can go on only with one that the server knows to be lost.
	ResumeGrace time.Duration
	// PingInterval is after how much silence a client is pinged: 25 s, below the 60 s
	// after which common proxies cut a quiet connection, and at most a third of
	// StaleAfter. PongTimeout is how long the answer may take: 10 s, and a second more for each KiB
	// in front of the ping, 96 at most. So a dead peer is found out after at most
	// PingInterval + PongTimeout if it is sent little. One that takes what had to wait for it is
	// alive.
	PingInterval time.Duration
	PongTimeout  time.Duration
	// StaleAfter is after how much silence a connection is ended however it answers:
	// 300 s. Any frame is a sign of life, and so is taking what had to wait. SweepInterval is how
	// often that is looked for: 60 s.
	StaleAfter    time.Duration
	SweepInterval time.Duration
	// WriteTimeout is how long a client may take nothing of what waits for it: 10 s, and a second
	// more for each KiB that it was sent last, 96 at most, as that much may lie in buffers on
	// the way. So clients that read 1 KiB a second are not ended, however long a message takes.
	// Negative means the default.
	WriteTimeout time.Duration
	// DrainWindow is over how much time Shutdown spreads its goodbyes to plain clients, so that
	// they do not all come back at once: 10 s, or a millisecond for each if that is less.
	// Negative: all at once. Clients of realtime.v1 spread their return themselves.
	DrainWindow time.Duration

	// Broker keeps what rooms and inboxes keep, and carries messages between processes. Nil: this
	// process is alone, and keeps them in its memory, see package broker/memory.
	Broker broker.Broker
	// Logger gets a line for each connection that ended, and for what clients do wrong, but
	// no more than one of a kind a second for what comes from one address: the next says how
	// many were left out. It never gets what a message says. Debug: connections that ended as
	// connections do, and what was refused to a client. Info: connections that the server ended
	// for what the client did or did not do. Warn: what the configuration lacks, and messages
	// that were set aside. Error: panics of handlers, and a broker that fails. Nil:
	// slog.Default().
	Logger *slog.Logger
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

// What happens to a connection beyond Options.MaxConnsPerUser.
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
	defaults.Set(&r.MaxConns, 100_000)
	defaults.Set(&r.MaxConnsPerUser, 100)
	defaults.Set(&r.MaxRoomsPerConn, 100)
	defaults.Set(&r.MaxMessageBytes, 64<<10)
	defaults.Set(&r.InboundRate, 200)
	defaults.Set(&r.InboundBytes, 1<<20)
	defaults.Set(&r.InboundFanout, 250_000)
	defaults.Set(&r.CompressFrom, 0)
	defaults.Set(&r.QueueMessages, sendqueue.DefaultMaxMessages)
	defaults.Set(&r.QueueBytes, sendqueue.DefaultMaxBytes)
	defaults.Set(&r.MemoryBudget, 256<<20)
	defaults.Set(&r.PingInterval, 25*second)
	defaults.Set(&r.PongTimeout, 10*second)
	defaults.Set(&r.StaleAfter, 300*second)
	defaults.Set(&r.SweepInterval, 60*second)
	defaults.Set(&r.DrainWindow, 10*second)
	defaults.Set(&r.ExpiryGrace, 10*second)
	defaults.Set(&r.ResumeGrace, 15*second)
	if r.StaleAfter > 0 && r.PingInterval > r.StaleAfter/3 {
		r.PingInterval = r.StaleAfter / 3
	}
	if r.WriteTimeout <= 0 {
		r.WriteTimeout = sendqueue.DefaultWriteTimeout
	}
	for _, limit := range []*int{&r.QueueMessages, &r.QueueBytes, &r.MaxMessageBytes} {
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
		Messages: ratelimit.PerSecond(o.InboundRate).WithBurst(o.QueueMessages / 2),
		Bytes:    ratelimit.PerSecond(o.InboundBytes).WithBurst(o.QueueBytes / 2),
		Fanout:   ratelimit.PerSecond(o.InboundFanout),
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
