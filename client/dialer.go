package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

// attemptTimeout is how long an attempt to connect may take, from the token to the welcome.
const attemptTimeout = 30 * time.Second

// dialer makes connections.
type dialer struct {
	url     string
	opts    *DialOptions
	tokens  *tokens
	tickets *tokens
}

// newDialer chooses a presence key for all connections of a client, unless the URL has one: so its
// member stays the same if it comes to another process of the server.
func newDialer(address string, o *DialOptions) dialer {
	if u, err := url.Parse(address); err == nil && !u.Query().Has("presence_key") {
		address = withQuery(address, "presence_key", rand.Text())
	}
	return dialer{url: address, opts: o, tokens: newTokens(o.Token), tickets: newTokens(o.Ticket)}
}

// withQuery adds a value to the query of a URL, which otherwise stays as it is.
func withQuery(address, key, value string) string {
	address, fragment, has := strings.Cut(address, "#")
	sign := "?"
	if strings.Contains(address, "?") {
		sign = "&"
	}
	if address += sign + key + "=" + url.QueryEscape(value); has {
		address += "#" + fragment
	}
	return address
}

// checkURL returns an error without the URL, which may contain secrets.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("realtime: not a URL")
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
		return nil
	}
	return fmt.Errorf("realtime: want a URL with ws or wss, got %q", u.Scheme)
}

// connect makes a connection and waits for the welcome. It returns a *DialError, or a
// *realtime.CloseError if the server closed the connection before the welcome.
func (d *dialer) connect(ctx context.Context) (*link, *welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	header, err := d.header(ctx)
	if err != nil {
		return nil, nil, &DialError{Err: err}
	}
	ticket, err := d.tickets.next(ctx)
	if err != nil {
		return nil, nil, &DialError{Err: err}
	}
	address := d.url
	if ticket != "" {
		address = withQuery(address, "ticket", ticket)
	}
	l, err := d.dial(ctx, address, header)
	if err != nil {
		return nil, nil, err
	}
	w, err := l.readWelcome(ctx)
	if err != nil {
		l.closeNow()
		return nil, nil, err
	}
	return l, w, nil
}

func (d *dialer) header(ctx context.Context) (http.Header, error) {
	h := d.opts.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	token, err := d.tokens.next(ctx)
	if err == nil && token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	return h, err
}

func (d *dialer) dial(ctx context.Context, address string, header http.Header) (*link, error) {
	l := &link{
		pingInterval: d.opts.PingInterval, pongTimeout: d.opts.PongTimeout,
		states: newStateFrames(), answers: make(chan frame, maxAnswers),
		probes: make(chan struct{}, 1), began: time.Now(),
	}
	l.progress = newWriteProgress(l.closeNow)
	tripper := &roundTripper{transport: d.opts.HTTPClient.Transport, link: l}
	client := *d.opts.HTTPClient
	client.Transport = tripper
	ws, res, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient: &client, HTTPHeader: header, Subprotocols: []string{realtime.V1},
	})
	if err != nil {
		return nil, newDialError(res, err)
	}
	if ws.Subprotocol() != realtime.V1 && !d.asksByQuery() {
		_ = ws.CloseNow()
		return nil, newProtocolError()
	}
	ws.SetReadLimit(min(int64(d.opts.MaxMessageBytes), math.MaxInt64-1)) // the library adds one
	l.ws, l.socket = ws, tripper.socket
	l.ctx, l.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return l, nil
}

// asksByQuery reports whether the URL also asks for the protocol. In that case a proxy may have
// removed the protocol from the response, and the welcome shows whether the server speaks it.
func (d *dialer) asksByQuery() bool {
	u, err := url.Parse(d.url)
	return err == nil && u.Query().Get("protocol") == realtime.V1
}

// newProtocolError returns the error for a server that does not speak the protocol.
func newProtocolError() *DialError {
	return &DialError{Status: http.StatusSwitchingProtocols, Err: errProtocol}
}

// roundTripper is an http.RoundTripper. It keeps the socket of the connection, and reports its
// reads and writes to the link.
type roundTripper struct {
	transport http.RoundTripper // nil: http.DefaultTransport
	link      *link
	socket    io.Closer
}

// RoundTrip implements http.RoundTripper.
func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	transport := t.transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	res, err := transport.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return res, err
	}
	t.socket = res.Body
	if socket, ok := res.Body.(io.ReadWriteCloser); ok { // else websocket.Dial refuses it
		res.Body = &observedSocket{
			ReadWriteCloser: socket, onRead: t.link.noteAlive, onWrite: t.link.noteWrite,
		}
	}
	return res, err
}

// newDialError returns the error of a failed attempt. res may be nil.
func newDialError(res *http.Response, err error) *DialError {
	if res == nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // omits the URL, which may contain secrets
		}
		return &DialError{Err: err}
	}
	e := &DialError{Status: res.StatusCode, RetryAfter: retryAfter(res.Header), Err: err}
	e.hasRetryAfter = res.Header.Get("Retry-After") != ""
	switch res.StatusCode {
	case http.StatusUnauthorized:
		e.Err = realtime.ErrUnauthenticated
	case http.StatusForbidden:
		e.Err = realtime.ErrForbidden
	}
	var fields map[string]any
	if body, err := io.ReadAll(res.Body); err == nil && json.Unmarshal(body, &fields) == nil {
		e.Message, _ = fields["error"].(string)
		e.ownFormat = e.Message != "" && len(fields) == 1
	}
	return e
}

// retryAfter parses a Retry-After header: seconds or a date, RFC 9110 section 10.2.3. A date is
// compared with the Date header, so that the server's clock applies.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	wait := time.Duration(0)
	if n, err := strconv.Atoi(value); err == nil || errors.Is(err, strconv.ErrRange) {
		wait = time.Duration(min(max(n, 0), int(maxWait/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		now, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			now = time.Now()
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxWait)
}

// readWelcome waits for the first frame.
func (l *link) readWelcome(ctx context.Context) (*welcome, error) {
	_, data, err := l.ws.Read(ctx)
	if err != nil {
		return nil, closeErrorOf(err)
	}
	in, _ := decode(frame{data: data})
	w := in.welcome()
	if w == nil {
		return nil, newProtocolError()
	}
	return w, nil
}
