package client

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/realtime-go/realtime"
)

// DialOptions configures a Client. The zero value of every field selects its default. For numbers
// and durations a negative value means off or unlimited, unless stated otherwise.
type DialOptions struct {
	// Token returns the credential that is sent as "Authorization: Bearer …". It is called for each
	// attempt to connect, and when the server reports that the identity has expired; calls may
	// overlap. It may block. ctx ends with the attempt, after 30 s, or with the connection; a token
	// that is returned later is ignored. The next attempt calls Token again, unless 8 earlier calls
	// are still running.
	//
	// Token may use the client, with ctx for everything that waits for the connection for which the
	// token is needed. An error that matches realtime.ErrUnauthenticated ends the client; after any
	// other error there is another attempt. Nil, or an empty token: the header is not sent.
	Token func(ctx context.Context) (string, error)
	// Ticket returns a ticket of [realtime.Manager.IssueTicket], which the application gets from its
	// server. It is called for each attempt to connect, because a ticket opens one connection, and
	// the ticket is added to the query of the URL. Otherwise the rules of Token apply. Nil, or an
	// empty ticket: none is added.
	Ticket func(ctx context.Context) (string, error)
	// Header is sent with each attempt to connect. It must not be changed after Dial.
	Header http.Header
	// HTTPClient makes the connections. Its Transport determines TLS and proxies, its Jar the
	// cookies. Nil means http.DefaultClient.
	HTTPClient *http.Client

	// OnCall answers a call from the server, each in its own goroutine. Of in, it gets in.Method,
	// and in.Message.Content or, for a call with bytes, in.Message.Binary, both of which OnCall
	// owns. The result is that of a [realtime.Handler]: nil for no content, a []byte for bytes, a
	// json.RawMessage for JSON, any other value for what encoding/json makes of it. The server
	// receives a *realtime.Error as it is, and the code "internal" for any other error and for a
	// result that cannot be encoded.
	//
	// ctx ends with the connection, which must carry the answer. 16 calls run at the same time;
	// further ones are answered with the code "busy". A panic is not recovered. OnCall must not
	// call Close, which waits for it. Nil: calls are answered with the code "unknown_method".
	OnCall func(ctx context.Context, in realtime.Inbound) (any, error)
	// OnState is called with each new state, one call at a time and in order. The client does
	// nothing else until it returns, so it must not wait for the client, nor close it. May be nil.
	OnState func(State)

	// OnRecover is called, for each room that keeps history, each time the client has received all
	// messages that it had missed there. If some cannot be recovered, a *GapError reports that
	// instead. The consumer of Messages may not have read the messages yet. The rules of OnState
	// apply. May be nil.
	OnRecover func(Recovery)

	// OnPresence is called when what a room shows of its members has changed, and with the first
	// answer, for each room for which JoinOptions.Presence has asked for it. It is called for
	// the members that have changed while there was no connection, but not for the interruption
	// itself. now is what [Client.Presence] returns, and change is the difference from the previous
	// call. It is not called when the client is no longer in the room. The rules of OnState apply.
	// May be nil.
	OnPresence func(room string, now Presence, change PresenceChange)

	// QueueMessages limits the messages that wait for the consumer of [Client.Messages], without
	// latest values, of which one waits for each key. Default: 1000. They take 64 MiB at most in any
	// case, and so do the values. Kept messages are not lost if the queue is full: the client fetches
	// them again when the consumer has read half of it.
	QueueMessages int
	// PendingSends is the number of messages that may wait for the server's answer at the same
	// time, each in a call of [Client.Send]. Further calls wait for their turn. A message that the
	// server could not take for now, and that waits to be sent again, does not count. Default: 100.
	PendingSends int
	// PendingRequests is the number of requests that may wait for a connection, for their turn or
	// for an answer. Default: 1000. PendingBytes is the number of bytes that these requests may
	// have; the last request may exceed it. Default: 16 MiB. If a limit is reached, Send, Call,
	// Join, History and similar methods return ErrFull.
	PendingRequests int
	PendingBytes    int
	// MaxMessageBytes limits the size of a message from the server. A larger message ends the
	// client with the code 1009. Default: 16 MiB.
	MaxMessageBytes int

	// PingInterval is the time of silence after which the client sends a ping. Default: 25 s.
	// PongTimeout is the time for an answer, after which the connection counts as lost. Zero or
	// negative: 10 s.
	PingInterval time.Duration
	PongTimeout  time.Duration
}

// Recovery reports how many missed messages of a room a client has received, in most cases after a
// reconnect.
type Recovery struct {
	Room     string
	Messages int
}

// State is the state of a client's connection.
type State struct {
	Phase Phase
	// Err is the reason for which there is no connection: how the last connection or the last
	// attempt ended. Nil if there is a connection, and before the first attempt.
	Err error
	// Retry is the time of the next attempt. Zero unless the phase is Waiting.
	Retry time.Time
}

// Phase is the main part of a State.
type Phase uint8

// The phases. A client begins with Connecting and ends with Closed.
const (
	Connecting Phase = iota // an attempt is in progress
	Open                    // there is a connection
	Waiting                 // the next attempt begins later
	Closed                  // the client has ended
)

// String returns the phase as one lower-case word.
func (p Phase) String() string {
	words := [...]string{"connecting", "open", "waiting", "closed"}
	if int(p) < len(words) {
		return words[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// resolved returns a copy with all defaults filled in. A number that means "unlimited" becomes
// large.
func (o *DialOptions) resolved() DialOptions {
	var r DialOptions
	if o != nil {
		r = *o
	}
	limit(&r.QueueMessages, 1000)
	limit(&r.PendingSends, 100)
	limit(&r.PendingRequests, 1000)
	limit(&r.PendingBytes, 16<<20)
	limit(&r.MaxMessageBytes, 16<<20)
	if r.PingInterval == 0 {
		r.PingInterval = 25 * time.Second
	}
	if r.PongTimeout <= 0 {
		r.PongTimeout = 10 * time.Second
	}
	if r.HTTPClient == nil {
		r.HTTPClient = http.DefaultClient
	}
	return r
}

func limit(n *int, def int) {
	switch {
	case *n == 0:
		*n = def
	case *n < 0:
		*n = math.MaxInt
	}
}
