package realtime

import (
	"cmp"
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
	// Authenticate returns the identity behind a request that opens a connection. It is called
	// before the upgrade, unless the query of the request has a ticket, see [Manager.IssueTicket].
	// An error that matches ErrForbidden is answered with 403, one that matches ErrUnavailable with
	// 503, after which clients try again, and any other error with 401; the text of the error is not
	// sent. Authenticate may block: only this request waits. If User.Disconnect is called for the
	// user in the meantime, the connection is refused. Nil: all connections are anonymous, except
	// those with a ticket.
	Authenticate func(*http.Request) (Identity, error)
	// ConnContext returns ctx with the values that the context of a connection will have. It is
	// called after Authenticate. If the result is not derived from ctx, the request panics. Values
	// from the request must be copied: r and r.Context() belong to the request, and routers reuse
	// them. The context of a connection ends with the connection and has no other values of the
	// request. Nil: no values.
	ConnContext func(ctx context.Context, r *http.Request) context.Context
	// Revalidate returns a new identity of the same user. When an identity has expired, it is
	// called with an empty token. When a client of realtime.v1 sends a token, it is called with
	// that token. Any error refuses the renewal. After a token was accepted, the rooms that the
	// client asked for are authorised again, and the client leaves those that are refused.
	// Revalidate may block and may run at the same time as a handler; ctx is the context of the
	// connection. Nil: an identity is renewed only by [Conn.Renew].
	Revalidate func(ctx context.Context, c *Conn, token string) (Identity, error)
	// Authorize decides about each request of a client. Nil refuses all. Calls of the application
	// are not authorised.
	Authorize Authorizer

	// OnConnect, OnMessage and OnDisconnect are called for events, see their types. OnMessage
	// handles messages and calls; a [Router] passes them to typed handlers, by name. Nil: each
	// client may connect, messages are sent to their targets, a message to the server gets the
	// error unknown_event, and a call gets unknown_method.
	OnConnect    ConnectFunc
	OnMessage    Handler
	OnDisconnect DisconnectFunc
	// OnRoom is called for each change of the members of a room: a connection has joined or left
	// it, or a member was lost or is back. The calls for one room are made one after another, in
	// the order of the changes; those for different rooms run at the same time. The events of a
	// room always describe the same members as [Room.LocalConns], with detached sessions.
	//
	// What a client sends after a join is handled after OnRoom has returned for that join. The same
	// holds for the other events before it, and for MemberBack after a session was resumed. The
	// answers to the join, to the resume and to pings do not wait. So a handler of messages knows
	// the member, and a slow OnRoom delays those who join. The next join of the connection by the
	// REST interface waits too. If more than 1,024 events of a room wait, clients wait before they
	// join it. Joins by the application do not wait.
	//
	// Each change is reported exactly once while the process runs. Shutdown waits for OnRoom, and
	// Close does not. A process that is killed reports nothing, and the next one begins with empty
	// rooms. The change has happened already, so the connection may have ended. OnRoom runs with no
	// lock held and may call all functions of this package. ctx has the values of the context of
	// the connection, and does not end. A panic is logged, and the next event is handled. Nil: none.
	OnRoom func(ctx context.Context, e RoomEvent)

	// Show is what each room shows of its members to those who may watch it. A room with more than
	// 1,000 members shows their number only, see ShowMembers. Zero: ShowNothing.
	Show Show
	// AnnounceUsers sends a notice to all other connections when the first connection of a user
	// opens, and when the last one ends: n users who come cause n² messages. Anonymous connections
	// cause no such notices, and neither does a connection that is lost if its session is resumed
	// within Timeouts.Resume. With a broker that connects several processes, the first and the last
	// connection are those of all processes.
	AnnounceUsers bool

	// Origins lists the origins whose pages may connect, in addition to pages of the host itself:
	// "https://app.example.com", "https://*.example.com". Browsers and web views send "null" or
	// "file://" for pages from files; note that every page can give itself the origin "null", in a
	// sandboxed frame. New panics if an entry is not an origin. The REST handler uses the same
	// list.
	Origins []string
	// InsecureAnyOrigin lets every page on the web connect with the cookies of your users.
	InsecureAnyOrigin bool
	// RequireOrigin refuses connections without an Origin header. All browsers send the header;
	// other programs may omit it.
	RequireOrigin bool
	// AllowedHosts lists the host names that requests may be for, without ports: "app.example.com",
	// "*.example.com". It prevents DNS rebinding, where the name of a foreign page resolves to this
	// server. New panics if an entry is not a name. Nil: every name is allowed. But if the request
	// arrived at a loopback address, only the names of the machine itself are allowed, unless it
	// came through a proxy; for the REST handler, one in TrustProxies.
	AllowedHosts []string
	// TrustProxies lists the proxies before this server by address: "10.0.0.7" or "10.0.0.0/8", or
	// "unix" for all peers at a Unix socket. Their X-Forwarded-For sets the address of the client
	// for Limits and for Info.RemoteAddr. Their X-Forwarded-Proto says whether the page must have
	// come over TLS ("https" or "wss") or not. The proxies must set or extend both headers. New
	// panics if an entry is not an address. Nil: no proxy is trusted.
	TrustProxies []string

	// Limits bounds what connections may use, and Timeouts how long they may take.
	Limits   Limits
	Timeouts Timeouts
	// UserFull is what happens if a user opens more than Limits.ConnsPerUser connections. Zero:
	// UserFullRefuse.
	UserFull UserFull

	// CompressFrom is the size in bytes from which messages and presence are compressed, for clients
	// that offer compression (permessage-deflate without context takeover, RFC 7692). Browsers offer
	// it. 512 is a good value. Zero or negative: compression is not negotiated.
	//
	// The goroutine that calls Send compresses a message once for all receivers: 1 KiB of JSON in
	// about 14 µs to a third, 16 KiB in 100 µs to a quarter. A compressor takes 1.2 MB, and there
	// is one for each message that is compressed at the same time. Clients may compress too:
	// Limits.MessageBytes and Limits.InboundBytes apply to the uncompressed message. Decompressing
	// takes 40 KiB while a message is read, and 4 KiB of that remain with the connection.
	//
	// Do not turn compression on if a message contains both a secret and text that another person
	// chose: its size can reveal the secret (CRIME, BREACH). One frame of presence may contain the
	// infos and states of all members.
	CompressFrom int

	// Slow is what happens to a message for a connection whose send queue is full. It does not
	// apply to inboxes: a connection that is too slow for its inbox always catches up. Zero:
	// SlowCatchUp in rooms that keep history, SlowDisconnect for all other messages.
	Slow SlowPolicy
	// History is how much each room keeps. A connection that joins can receive the newest messages
	// first, and a client that reconnects receives the messages it missed. Zero Messages: nothing.
	History Retention
	// Inbox says how messages to users are kept until they are acknowledged. Zero: not at all.
	Inbox InboxOptions
	// Room returns the options of one room. It is called with no lock held: for each join, and for
	// a message to a room without members or a read of its history. The result for the first member
	// applies until the last member has left. Nil: each room has Slow, History
	// and Show.
	Room func(name string) RoomOptions

	// Broker keeps the messages of rooms and inboxes, and carries messages between processes. Nil:
	// the process is alone and keeps messages in memory, see package broker/memory.
	Broker broker.Broker
	// Logger gets a line for each connection that ended and for each error of a client. Lines of
	// one kind from one address are limited to one a second; the next line has the number of lines
	// left out. No line contains the content of a message. Nil: slog.Default(). The levels are:
	//
	//   - Debug: ordinary ends of connections, refused requests of clients
	//   - Info: connections that the server ended because of the client
	//   - Warn: missing configuration, invalid messages from the broker, dead letters
	//   - Error: panics of handlers, errors of the broker, a ResponseWriter without upgrades
	Logger *slog.Logger
}

// Limits bounds what connections may use. A zero field means the default that its comment gives; a
// negative number means no limit.
type Limits struct {
	Conns int // connections in all: 100,000
	// ConnsPerUser bounds the connections of one user: 100, see Options.UserFull. Detached sessions
	// do not prevent new connections. If one more session is detached, and the user has more of both
	// together, the oldest detached one ends.
	ConnsPerUser int
	// ConnsPerIP bounds the connections from one address: 1000. HandshakeRatePerIP bounds the
	// attempts per second to connect from one address: 50. HandshakeRate bounds the attempts per
	// second from all addresses: 2000. The attempts of ten seconds may come at once. An IPv6
	// address counts by its /64. Loopback and private addresses often belong to proxies: ConnsPerIP
	// and HandshakeRatePerIP apply to them only if they are set. Connections above one of these
	// limits are refused with 429 or 503.
	ConnsPerIP         int
	HandshakeRatePerIP int
	HandshakeRate      int
	RoomsPerConn       int // rooms of one connection: 100
	// MessageBytes bounds a message from a client: 64 KiB. A larger message ends the connection
	// with code 1009. While a message is incomplete, 1 KiB of it must arrive each second: if less
	// arrives for 10 s, the connection ends with code 1008. Over TLS it is 26 s, because a record
	// is visible only when it is complete.
	MessageBytes int

	// InboundRate is how many messages a client may send each second: 200, on average over ten
	// seconds. InboundBytes is how many bytes: 1 MiB. InboundFanout is how many receivers its
	// messages may have together: 250,000; a message to a room of 10,000 counts 10,000. A latest
	// value counts like any other message to the members. A state, a join and a leave count for the
	// members who watch the room and are told, and once if the room shows a number only. The
	// requests of a client count too: a list of members and kept messages as bytes and receivers,
	// the notices of its joins as receivers, each room that is authorised again as a message.
	// Messages that OnMessage sends do not count, except by [Relay].
	//
	// The amount of ten seconds may come at once, but no more than half of QueueMessages and
	// QueueBytes. A client above a limit is read more slowly, and nothing is lost. If it stays
	// above the limit for ten seconds, without waiting for answers, its connection is closed with
	// code 4429.
	InboundRate   int
	InboundBytes  int
	InboundFanout int

	// QueueMessages and QueueBytes bound the send queue of a connection: 1000 messages, 4 MiB. See
	// Options.Slow.
	QueueMessages int
	QueueBytes    int
	// MemoryBytes is the memory budget of all connections together: 256 MiB. It includes:
	//
	//   - queued messages, each once for all its receivers
	//   - messages that are being read or wait for a handler
	//   - the ids of messages that clients sent in the last two minutes: at most a quarter of the
	//     budget, or half of it if there are very many senders
	//   - detached sessions, see Timeouts.Resume
	//   - what rooms show of their members, with infos and states, and latest values: beyond a
	//     quarter of the budget, more states and values are refused
	//   - a record of the messages to several targets that lagging connections were given
	//
	// When seven eighths of the budget are in use, the connections that would take the longest to
	// read their queues are closed with code 4300, within half a second, until a quarter is free.
	// Answers that clients asked for and have not read may take a quarter of the budget. Beyond
	// that, requests for lists and kept messages wait, and the connections with the most unread
	// answers are closed. When the whole budget is in use, notices are dropped, and new connections
	// are refused with 503 or ErrOverloaded. From seven eighths on, states and latest values that
	// take more memory than before are refused. Other messages never are, so usage can exceed the
	// budget for a moment. The process takes more memory than the budget: three to five times as
	// much was measured under attack, with the default setting of the garbage collector.
	MemoryBytes int
}

// Timeouts bounds how long connections may take. A zero field means the default that its comment
// gives. A negative duration turns the timeout off, unless its comment says otherwise.
type Timeouts struct {
	// Ping is how long a client may be silent before it is pinged: 25 s, but at most a third of
	// Stale. Common proxies cut connections that are silent for 60 s. Pong is how long the answer
	// to a ping may take: 10 s, plus a second for each KiB queued before the ping, up to 96. So a
	// dead peer with an empty queue is found after at most Ping + Pong. A peer that reads messages
	// for which it had been too slow counts as alive.
	Ping time.Duration
	Pong time.Duration
	// Stale is how long a client may be silent before its connection is closed, whatever Ping and
	// Pong are: 300 s. Each frame from the client is a sign of life, and so is reading messages for
	// which it had been too slow. Sweep is the interval of this check: 60 s.
	Stale time.Duration
	Sweep time.Duration
	// Write is how long a client may read nothing of its send queue: 10 s, plus a second for each
	// KiB that was sent to it last, up to 96, because these may still be in buffers on the way. So
	// a client that reads 1 KiB a second is not closed. Negative: the default.
	Write time.Duration
	// Drain is the time over which Shutdown spreads the close frames to plain clients, so that they
	// do not all reconnect at once: 10 s, but at most a millisecond for each client. Clients of
	// realtime.v1 spread their reconnects themselves. Negative: all close frames are sent at once.
	Drain time.Duration
	// Resume is how long a session of realtime.v1 remains in its rooms after its connection was
	// lost, timed out or was too slow: 15 s. If the client reconnects within that time it resumes
	// the session, and no notice is sent. A third of it applies to a client that closes with code
	// 1001, as a page does that is reloaded: it continues its memberships when it joins its rooms
	// again, see presence_key in docs/PROTOCOL.md. There are at most 100,000 detached sessions, and
	// they take at most a quarter of Limits.MemoryBytes: beyond that, and under memory pressure, a
	// lost connection leaves its rooms at once. A user who has Limits.ConnsPerUser connections can
	// resume only a session that the server knows to be lost. Negative: no session can be resumed.
	Resume time.Duration
	// Expiry is how long a connection continues after its identity has expired, if the identity is
	// not renewed: 10 s. Then it is closed with code 4401. Negative: it is closed at once.
	Expiry time.Duration
}

// Show is what a room shows of its members.
type Show uint8

// The values of Show.
const (
	// ShowDefault in RoomOptions means Options.Show. In Options it means ShowNothing.
	ShowDefault Show = iota
	// ShowNothing shows nothing: members do not learn of each other.
	ShowNothing
	// ShowCount shows how many users and connections are in the room, at most once in a second.
	ShowCount
	// ShowMembers also shows the members themselves. While there are more than 1,000 of them, or
	// more than 256 KiB of what is shown, or a quarter of Limits.QueueBytes, the room shows their
	// number only, at most once in a second, until there are fewer than 800 with three quarters of
	// that size. Meanwhile states are accepted and kept, and [Room.Members] has all members.
	//
	// Plain clients in the room receive a notice when the first connection of a user joins it, and
	// when the last one leaves it. A further connection of a user that joins receives the notice
	// alone. Each anonymous connection causes notices, without a user. A connection that is lost
	// causes none if its session is resumed within Timeouts.Resume.
	ShowMembers
)

// UserFull is what happens if a user opens more than Limits.ConnsPerUser connections.
type UserFull uint8

// The values of UserFull.
const (
	// UserFullRefuse refuses the new connection with 429 or ErrTooManyConns.
	UserFullRefuse UserFull = iota
	// UserFullReplace opens the new connection, and then closes the user's oldest one with code
	// 4409.
	UserFullReplace
)

// A client may send pingRate pings a second, and pingBurst at once.
const pingRate, pingBurst = 20, 50

// resolved returns a copy with all defaults filled in. In the copy, zero means "off" or "no limit".
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
	defaults.Set(&r.Timeouts.Ping, 25*time.Second)
	defaults.Set(&r.Timeouts.Pong, 10*time.Second)
	defaults.Set(&r.Timeouts.Stale, 300*time.Second)
	defaults.Set(&r.Timeouts.Sweep, 60*time.Second)
	defaults.Set(&r.Timeouts.Drain, 10*time.Second)
	defaults.Set(&r.Timeouts.Expiry, 10*time.Second)
	defaults.Set(&r.Timeouts.Resume, 15*time.Second)
	if r.Timeouts.Stale > 0 && r.Timeouts.Ping > r.Timeouts.Stale/3 {
		r.Timeouts.Ping = r.Timeouts.Stale / 3
	}
	if r.Timeouts.Write <= 0 {
		r.Timeouts.Write = sendqueue.DefaultWriteTimeout
	}
	for _, limit := range []*int{
		&r.Limits.QueueMessages, &r.Limits.QueueBytes, &r.Limits.MessageBytes,
	} {
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

// newLimits bounds each burst by half of a send queue. A larger burst could end the other members
// of a room before they have had time to read.
func newLimits(o *Options) session.Limits {
	return session.Limits{
		Messages: ratelimit.PerSecond(o.Limits.InboundRate).WithBurst(o.Limits.QueueMessages / 2),
		Bytes:    ratelimit.PerSecond(o.Limits.InboundBytes).WithBurst(o.Limits.QueueBytes / 2),
		Fanout:   ratelimit.PerSecond(o.Limits.InboundFanout),
		Pings:    ratelimit.PerSecond(pingRate).WithBurst(pingBurst),
	}
}

// maxContent is the largest content of a message, in bytes: one that fills a send queue to half.
func (o *Options) maxContent() int { return o.Limits.QueueBytes / 2 }

// roomPolicy is what the options of a room say.
type roomPolicy struct {
	recovery.Policy
	show Show // never ShowDefault
}

// policy returns the policy for a new room. It calls Options.Room, so no lock may be held.
func (o *Options) policy(room string) roomPolicy {
	slow, history, show := o.Slow, o.History, o.Show
	if o.Room != nil {
		own := o.Room(room)
		if own.Slow != SlowDefault {
			slow = own.Slow
		}
		if own.History.Messages != 0 {
			history = own.History
		}
		show = cmp.Or(own.Show, show)
	}
	return roomPolicy{newPolicy(slow, history), cmp.Or(show, ShowNothing)}
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

// SlowPolicy says what happens to a message for a slow consumer: a connection whose send queue is
// full, because the client reads more slowly than messages are sent to it. Other connections are
// not affected.
type SlowPolicy uint8

// The policies. Dropped messages are counted in [Stats].
const (
	// SlowDefault in RoomOptions means Options.Slow. In Options it means SlowCatchUp in rooms that
	// keep history, and SlowDisconnect for all other messages.
	SlowDefault SlowPolicy = iota
	// SlowDisconnect closes the connection with code 4300. The client reconnects, and knows that it
	// has missed messages.
	SlowDisconnect
	// SlowDropOldest drops the message that has waited longest. It suits data of which only the
	// latest value counts.
	SlowDropOldest
	// SlowDropNewest drops the message that is being sent.
	SlowDropNewest
	// SlowCatchUp gives the member the messages it missed from the history of the room, as soon as
	// it has read most of its queue, and as fast as it reads. If messages are no longer kept by
	// then, they are lost for this member, and its client is told. In rooms that keep no history it
	// is SlowDisconnect.
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
