package client

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"
)

// DialOptions configures a Client. The zero value of every field is its default; for numbers and
// durations a negative value means off or without limit, where nothing else is said.
type DialOptions struct {
	// Token returns what the client proves with who it is, sent as "Authorization: Bearer …".
	// It is called for each attempt to connect, and when the server says that the identity has
	// expired, perhaps at the same time. It may block; ctx ends with the attempt, after 30 s, or
	// with the connection. What it returns later is ignored, and the next attempt calls it again,
	// while fewer than 8 calls have not returned. It may use the client, with ctx for what waits for
	// the connection that the token is for. An error that matches realtime.ErrUnauthenticated ends
	// the client; after any other there is another attempt. Nil or an empty token: the header is not
	// sent.
	Token func(ctx context.Context) (string, error)
	// Header is sent with each attempt to connect. It must not change any more.
	Header http.Header
	// HTTPClient makes the connections: its Transport has TLS and proxies, its Jar the cookies.
	// Nil: http.DefaultClient.
	HTTPClient *http.Client

	// OnCall answers the calls of the server, each in a goroutine of its own. Content is JSON,
	// or nil if there is none, and its own; so is the answer. The server gets an error that is
	// a *realtime.Error, and "internal" of any other. ctx ends with the connection, which the
	// answer has to take. 16 run at a time: more are answered with the code "busy". A panic is
	// not contained. It must not call Close, which waits for it. Nil: the answer is
	// "unknown_method".
	OnCall func(ctx context.Context, method string, content json.RawMessage) (json.RawMessage, error)
	// OnState is told of each change, one at a time and in order. Nothing goes on until it has
	// returned, so it must not wait for the client, nor close it. Nil: nobody is told.
	OnState func(State)

	// OnRecover is told, once for each room that keeps history and each time, that the client has
	// received all that it had missed there; what it could not get is a *GapError. It is called like
	// OnState, by which the consumer need not have had the messages yet. Nil: nobody is told.
	OnRecover func(Recovery)

	// QueueMessages bounds what waits for the consumer of [Client.Messages]: 1000 messages, and
	// 64 MiB in any case. What is kept is not lost by it: it is got again when the consumer has taken
	// half of that.
	QueueMessages int
	// PendingSends is how many messages may wait for the server's answer, each a call of
	// [Client.Send]: 100. More wait for their turn.
	PendingSends int
	// PendingRequests is how many requests may wait, for a connection, for their turn or for an
	// answer: 1000. PendingBytes is how many bytes of them: 16 MiB; the last one may go beyond it.
	// While so much waits, Send, Call, Join, History and the like return ErrFull.
	PendingRequests int
	PendingBytes    int
	// MaxMessageBytes bounds a message from the server: 16 MiB. A larger one ends the client
	// with the code 1009.
	MaxMessageBytes int

	// PingInterval is after how much silence the server is asked for a sign of life: 25 s.
	// PongTimeout is how long that may take before the connection counts as lost: 10 s. Negative
	// means the default.
	PingInterval time.Duration
	PongTimeout  time.Duration
}

// Recovery is what a client has got that it had missed, after a reconnect in most cases.
type Recovery struct {
	Room     string
	Messages int
}

// State is what a client is doing.
type State struct {
	Phase Phase
	// Err is why there is no connection: how the last one ended, or the last attempt to make
	// one. Nil if there is one, and before the first attempt.
	Err error
	// Retry is when the next attempt begins. Zero unless the phase is Waiting.
	Retry time.Time
}

// Phase is a part of a client's life.
type Phase uint8

// The phases. A client begins with Connecting and ends with Closed.
const (
	Connecting Phase = iota // an attempt is under way
	Open                    // there is a connection
	Waiting                 // for the next attempt
	Closed                  // for good
)

// String returns the phase as one lower-case word.
func (p Phase) String() string {
	words := [...]string{"connecting", "open", "waiting", "closed"}
	if int(p) < len(words) {
		return words[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// resolved returns a copy in which every default is filled in, and every number that means
// "without limit" is large.
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
