package realtimetest

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// handlerTime is how long the end of a test waits for handlers that run.
const handlerTime = 10 * time.Second

// maxUnexpected is the number of unexpected messages that a client keeps.
const maxUnexpected = 1 << 16

// Server serves an application on a network in memory, for one test.
type Server struct {
	// Manager is the Manager that New made, and nil after Serve.
	Manager *realtime.Manager

	t   testing.TB
	net *network
}

// New serves a Manager with these options. If o is nil, everyone may do everything, for tests of
// something else. If Options.Authenticate is nil, the user is the one that the client names, see
// [realtime.InsecureQueryUser]. The Manager and the server are closed when the test ends. Then New
// waits until all handlers have returned, but not longer than ten seconds.
func New(t testing.TB, o *realtime.Options) *Server {
	t.Helper()
	opts := realtime.Options{Authorize: realtime.InsecureAllowAll}
	if o != nil {
		opts = *o
	}
	if opts.Authenticate == nil {
		opts.Authenticate = realtime.InsecureQueryUser
	}
	m := realtime.New(&opts)
	t.Cleanup(func() {
		_ = m.Close()
		ctx, cancel := context.WithTimeout(context.Background(), handlerTime)
		defer cancel()
		_ = m.Shutdown(ctx) // waits for handlers, which may use t
	})
	s := Serve(t, m)
	s.Manager = m
	return s
}

// Serve serves a handler, such as the router of an application with all its middleware. The server
// is closed when the test ends.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := &Server{t: t, net: newNetwork()}
	srv := realtime.NewServer("", h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(s.net)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return s
}

// Connect connects a user to the Manager that New made, see [Server.Dial]. It dials with
// ?user_id=USER: if Options.Authenticate does not read that, call Dial with a token or a header.
// After New every path is the endpoint.
func (s *Server) Connect(user string) *Client {
	s.t.Helper()
	return s.Dial("/?"+url.Values{"user_id": {user}}.Encode(), nil)
}

// Dial connects a client to the endpoint with this path, which begins with a slash and may have a
// query. The options are those of [client.Dial]; their HTTPClient is replaced. Dial waits until the
// connection is open, and fails the test if the server refuses it. The client is closed when the
// test ends.
func (s *Server) Dial(path string, o *client.DialOptions) *Client {
	s.t.Helper()
	c, err := s.TryDial(path, o)
	if err != nil {
		s.t.Fatalf("realtimetest: dial %s: %v", path, err)
	}
	return c
}

// TryDial is Dial, but returns the error of [client.Dial].
func (s *Server) TryDial(path string, o *client.DialOptions) (*Client, error) {
	s.t.Helper()
	uplink := newUplink(s.net)
	opts := client.DialOptions{}
	if o != nil {
		opts = *o
	}
	opts.HTTPClient = uplink.client()
	opts.QueueMessages = cmp.Or(opts.QueueMessages, maxUnexpected)
	changed, onPresence := make(chan struct{}, 1), opts.OnPresence
	opts.OnPresence = func(room string, now client.Presence, change client.PresenceChange) {
		if onPresence != nil {
			onPresence(room, now, change)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), waitTimeout)
	defer cancel()
	dialled, err := client.Dial(ctx, s.URL(path), &opts)
	if err != nil {
		return nil, err
	}
	c := &Client{Client: dialled, t: s.t, uplink: uplink, presence: changed}
	s.t.Cleanup(c.close)
	return c, nil
}

// URL returns the URL of a path, for code of the application that dials by itself with
// [Server.DialOptions].
func (s *Server) URL(path string) string { return "ws://realtime.test" + path }

// DialOptions returns options with which [client.Dial] reaches the server.
func (s *Server) DialOptions() *client.DialOptions {
	return &client.DialOptions{HTTPClient: newUplink(s.net).client()}
}
