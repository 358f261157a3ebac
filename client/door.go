package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

// attemptTime is how long an attempt to connect may take, from the token to the welcome.
const attemptTime = 30 * time.Second

// door makes connections.
type door struct {
	url    string
	opts   *DialOptions
	tokens *tokens
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

// enter makes a connection and waits for the welcome. It returns a *DialError, or a
// *realtime.CloseError if the server closed the connection before the welcome.
func (d *door) enter(ctx context.Context) (*link, *welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	header, err := d.header(ctx)
	if err != nil {
		return nil, nil, &DialError{Err: err}
	}
	l, err := d.dial(ctx, header)
	if err != nil {
		return nil, nil, err
	}
	hello, err := l.welcome(ctx)
	if err != nil {
		l.drop()
		return nil, nil, err
	}
	return l, hello, nil
}

func (d *door) header(ctx context.Context) (http.Header, error) {
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

func (d *door) dial(ctx context.Context, header http.Header) (*link, error) {
	l := &link{
		quiet: d.opts.PingInterval, patience: d.opts.PongTimeout,
		answers: make(chan frame, maxAnswers), doubts: make(chan struct{}, 1), began: time.Now(),
	}
	l.progress = newProgress(l.drop)
	through := &tap{transport: d.opts.HTTPClient.Transport, link: l}
	client := *d.opts.HTTPClient
	client.Transport = through
	ws, res, err := websocket.Dial(ctx, d.url, &websocket.DialOptions{
		HTTPClient: &client, HTTPHeader: header, Subprotocols: []string{realtime.V1},
	})
	if err != nil {
		return nil, refused(res, err)
	}
	if ws.Subprotocol() != realtime.V1 && !d.asksByQuery() {
		_ = ws.CloseNow()
		return nil, newForeign()
	}
	ws.SetReadLimit(min(int64(d.opts.MaxMessageBytes), math.MaxInt64-1)) // the library adds one
	l.ws, l.socket = ws, through.socket
	l.ctx, l.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return l, nil
}

// asksByQuery reports whether the URL also asks for the protocol. In that case a proxy may have
// removed the protocol from the response, and the welcome shows whether the server speaks it.
func (d *door) asksByQuery() bool {
	u, err := url.Parse(d.url)
	return err == nil && u.Query().Get("protocol") == realtime.V1
}

// newForeign returns the error for a server that does not speak the protocol.
func newForeign() *DialError {
	return &DialError{Status: http.StatusSwitchingProtocols, Err: errForeign}
}

// tap is an http.RoundTripper. It keeps the socket of the connection and reports reads and writes
// to its link.
type tap struct {
	transport http.RoundTripper // nil: http.DefaultTransport
	link      *link
	socket    io.Closer
}

// RoundTrip implements http.RoundTripper.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
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
		res.Body = &flow{ReadWriteCloser: socket, came: t.link.hears, went: t.link.said}
	}
	return res, err
}

// refused returns the error of a failed attempt. res may be nil.
func refused(res *http.Response, err error) *DialError {
	if res == nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // omits the URL, which may contain secrets
		}
		return &DialError{Err: err}
	}
	e := &DialError{Status: res.StatusCode, RetryAfter: retryAfter(res.Header), Err: err}
	e.passes = res.Header.Get("Retry-After") != ""
	switch res.StatusCode {
	case http.StatusUnauthorized:
		e.Err = realtime.ErrUnauthenticated
	case http.StatusForbidden:
		e.Err = realtime.ErrForbidden
	}
	var said map[string]any
	if body, err := io.ReadAll(res.Body); err == nil && json.Unmarshal(body, &said) == nil {
		e.Message, _ = said["error"].(string)
		e.ours = e.Message != "" && len(said) == 1
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

// welcome waits for the first frame.
func (l *link) welcome(ctx context.Context) (*welcome, error) {
	_, data, err := l.ws.Read(ctx)
	if err != nil {
		return nil, endOf(err)
	}
	in, _ := decode(frame{data: data})
	hello := in.welcome()
	if hello == nil {
		return nil, newForeign()
	}
	return hello, nil
}
