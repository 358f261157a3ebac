package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/transport"
)

const (
	maxHeaderBytes = 16 << 10
	maxHeaders     = 100
	// retryAfter is what a client is told to wait that was refused for want of room.
	retryAfter = 5 * time.Second
	// bodyPatience is how long the body of a request may take.
	bodyPatience = 5 * time.Second
)

// NewServer returns an http.Server with the limits that a server of long-lived
// connections needs and a handler cannot set: 5 s for the header of a request, 16 KiB
// of headers, 60 s between requests. It listens on addr, see http.Server.Addr.
func NewServer(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr: addr, Handler: h,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    maxHeaderBytes,
		IdleTimeout:       60 * time.Second,
	}
}

// refusal is an error that is answered to an upgrade request or to a REST request.
type refusal struct {
	status  int
	message string // for the client; no secrets
	counter metrics.Counter
	wait    time.Duration // after which a retry may succeed; 0: not known
	allow   string        // the method that is allowed, for a wrong one
}

func newRefusal(status int, message string, c metrics.Counter) *refusal {
	return &refusal{status: status, message: message, counter: c}
}

// retryLater returns a refusal that may not apply any more after wait.
func retryLater(status int, message string, c metrics.Counter, wait time.Duration) *refusal {
	return &refusal{status: status, message: message, counter: c, wait: wait}
}

// forbidden returns the refusal for a user that is denied.
func forbidden(err error) *refusal {
	no := newRefusal(http.StatusForbidden, "denied", metrics.RefusedAuth)
	if denied, ok := errors.AsType[*admission.DeniedError](err); ok {
		no.wait = denied.Left
	}
	return no
}

// wrongMethod returns the refusal of a request whose method is not the allowed one.
func wrongMethod(allowed string) *refusal {
	no := newRefusal(http.StatusMethodNotAllowed, "use "+allowed, metrics.RefusedRequest)
	no.allow = allowed
	return no
}

func (e *refusal) Error() string { return e.message }

// ServeHTTP is the WebSocket endpoint. It checks origin, limits and identity before
// the upgrade, and answers what it refuses with plain HTTP and a JSON error: 400,
// 401, 403, 426, 429, 431 or 503. It returns when the connection is open, so that
// middleware is done with it; the connection keeps nothing of the request's context, see
// Options.ConnContext.
//
// It can be mounted under any path, on net/http and on every router that hands
// through a ResponseWriter which can be hijacked.
func (m *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.endpoint.serve(w, r) }

// endpoint decides which requests become connections.
type endpoint struct {
	m        *Manager
	proxies  admission.Proxies
	hosts    admission.Hosts
	origins  *admission.Origins
	upgrader *transport.Upgrader
}

// newEndpoint panics if an option is not valid.
func newEndpoint(m *Manager) *endpoint {
	e := &endpoint{m: m, proxies: admission.NewProxies(m.opts.TrustProxies)}
	e.hosts = admission.NewHosts(m.opts.AllowedHosts, &e.proxies)
	e.origins = admission.NewOrigins(m.opts.Origins, m.opts.InsecureAnyOrigin, &e.proxies)
	e.upgrader = transport.NewUpgrader(m.background.Go, m.opts.CompressFrom > 0)
	return e
}

func (ep *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	m := ep.m
	limitBody(w, r)
	if ep.preflight(w, r) {
		return
	}
	began := m.revocations.Begin()
	defer m.revocations.End()
	from := ep.proxies.Source(r)
	id, err := ep.checkRequest(w, r, from)
	if err != nil {
		ep.refusePage(w, r, err)
		return
	}
	ctx := ep.connContext(r) // before a place is taken: it may panic
	e := candidate{user: id.UserID, address: admission.AddrKey(from), began: began}
	if err := refusalOf(m.registry.reserve(e)); err != nil {
		ep.refusePage(w, r, err)
		return
	}
	// Last, so that a plain request learns what an upgrade would be refused for: a
	// browser does not tell its page.
	if status, hint := transport.CheckHandshake(w, r); status != 0 {
		m.registry.cancel(e)
		ep.refusePage(w, r, newRefusal(status, hint, metrics.RefusedRequest))
		return
	}
	s, err := ep.upgrader.Upgrade(w, r, ep.remote(r, from))
	if err != nil { // the request has been answered
		m.registry.cancel(e)
		m.counters.Add(metrics.RefusedRequest, 1)
		m.log.Log(r.Context(), slog.LevelDebug, e.address.String(), "realtime: upgrade failed",
			slog.Any("error", err))
		return
	}
	_, _ = m.registry.register(ctx, s, id, e) // what ended it has been logged
}

// derivedKey marks the context that ConnContext is given.
type derivedKey struct{}

// connContext returns the context of the connection that r opens. The request's own is not kept:
// routers put it back into a pool when the handler has returned, and fill it with the values of
// other requests.
func (ep *endpoint) connContext(r *http.Request) context.Context {
	ctx := context.Background()
	if ep.m.opts.ConnContext == nil {
		return ctx
	}
	ctx = ep.m.opts.ConnContext(context.WithValue(ctx, derivedKey{}, true), r)
	if ctx == nil || ctx.Value(derivedKey{}) == nil {
		panic("realtime: Options.ConnContext returned a context that is not derived from its ctx")
	}
	return ctx
}

// limitBody bounds how long the body of a request may take. A server for long-lived connections
// cannot, and waits for a body without end: also for one that nobody reads, before it writes
// the answer.
func limitBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // not every ResponseWriter can
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience))
	}
}

// remote is the address of a client for humans: with its port, unless a proxy has it.
func (ep *endpoint) remote(r *http.Request, from netip.Addr) string {
	if from == admission.Peer(r) {
		return r.RemoteAddr
	}
	return from.String()
}

// checkRequest checks everything about a request before anybody is let in, what costs the
// least first, and finds out who it is.
func (ep *endpoint) checkRequest(w http.ResponseWriter, r *http.Request, from netip.Addr) (Identity, error) {
	if ep.m.capacity.Closed() {
		return Identity{}, refusalOf(ErrClosed)
	}
	if wait := ep.m.addresses.Attempt(admission.AddrKey(from)); wait > 0 {
		return Identity{}, retryLater(http.StatusTooManyRequests, "too many attempts", metrics.RefusedLimit, wait)
	}
	if err := checkHeaders(r.Header); err != nil {
		return Identity{}, err
	}
	if name, ok := ep.hosts.Check(r, true); !ok {
		return Identity{}, ep.refuseHost(name)
	}
	if page, ok := ep.origins.Check(r); !ok || ep.m.opts.RequireOrigin && lacksOrigin(r) {
		return Identity{}, ep.refuseOrigin(page)
	}
	if r.Method != http.MethodGet {
		return Identity{}, wrongMethod(http.MethodGet)
	}
	return ep.authenticate(r, from)
}

// lacksOrigin reports whether a request would open a connection and names no origin. One that would
// not is a page's that asks why: a browser names none where it asks the server that it came from.
func lacksOrigin(r *http.Request) bool {
	return r.Header.Get("Origin") == "" && transport.HasToken(r.Header, "Upgrade", "websocket")
}

func (ep *endpoint) authenticate(r *http.Request, from netip.Addr) (Identity, error) {
	if ep.m.opts.Authenticate == nil {
		return Identity{}, nil
	}
	id, err := ep.m.opts.Authenticate(r)
	switch {
	case errors.Is(err, ErrForbidden):
		return id, newRefusal(http.StatusForbidden, "forbidden", metrics.RefusedAuth)
	case err != nil:
		ep.m.log.Log(r.Context(), slog.LevelDebug, admission.AddrKey(from).String(), "realtime: not authenticated",
			slog.Any("error", err))
		return id, newRefusal(http.StatusUnauthorized, "not authenticated", metrics.RefusedAuth)
	}
	switch err := id.validate(); {
	case errors.Is(err, ErrUnauthenticated):
		return id, newRefusal(http.StatusUnauthorized, "not authenticated", metrics.RefusedAuth)
	case err != nil:
		message := "invalid user id"
		if names.CheckUser(cmp.Or(id.UserID, "none")) == nil {
			message = "invalid device"
		}
		return id, newRefusal(http.StatusBadRequest, message, metrics.RefusedAuth)
	}
	return id, nil
}

// checkHeaders refuses what is too much to be a handshake.
func checkHeaders(h http.Header) error {
	n, bytes := 0, 0
	for name, values := range h {
		n += len(values)
		for _, v := range values {
			bytes += len(name) + len(v)
		}
	}
	if n > maxHeaders || bytes > maxHeaderBytes {
		return newRefusal(http.StatusRequestHeaderFieldsTooLarge, "too many headers", metrics.RefusedRequest)
	}
	return nil
}

func (ep *endpoint) refuseOrigin(from string) error {
	from = ratelog.Clip(from)
	message := fmt.Sprintf("origin %q is not allowed: add it to Options.Origins", from)
	if from == "" {
		message = "an Origin header is required"
	}
	ep.m.log.Once(slog.LevelWarn, "origin", from, "realtime: refused a request: "+message)
	return newRefusal(http.StatusForbidden, message, metrics.RefusedOrigin)
}

func (ep *endpoint) refuseHost(name string) error {
	name = ratelog.Clip(name)
	message := fmt.Sprintf("host %q is not allowed: add it to Options.AllowedHosts", name)
	ep.m.log.Once(slog.LevelWarn, "host", name, "realtime: refused a request: "+message)
	return newRefusal(http.StatusForbidden, message, metrics.RefusedHost)
}

// refusalOf is the refusal for an error of the gate.
func refusalOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDenied):
		return forbidden(err)
	case errors.Is(err, ErrClosed):
		// Without Retry-After: the next server may be up before a whole second is over.
		return newRefusal(http.StatusServiceUnavailable, "shutting down", metrics.RefusedShutdown)
	case errors.Is(err, errUserFull), errors.Is(err, admission.ErrAddressFull):
		return retryLater(http.StatusTooManyRequests, "too many connections of yours", metrics.RefusedLimit, retryAfter)
	case errors.Is(err, ErrOverloaded):
		return retryLater(http.StatusServiceUnavailable, "short of memory", metrics.RefusedLimit, retryAfter)
	default:
		return retryLater(http.StatusServiceUnavailable, "too many connections", metrics.RefusedLimit, retryAfter)
	}
}

// preflight answers what a browser asks before a page of an allowed origin may ask with a token
// why its WebSocket did not open. It reports whether the request was that.
func (ep *endpoint) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") != http.MethodGet {
		return false
	}
	from := r.Header.Get("Origin")
	if _, ok := ep.origins.Check(r); !ok || from == "" {
		return false
	}
	h := w.Header()
	allowPage(h, from)
	h.Set("Access-Control-Allow-Methods", http.MethodGet)
	h.Set("Access-Control-Allow-Headers", "Authorization")
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Origin")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowPage lets a page of this origin read an answer to a request with its cookies.
func allowPage(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
}

// refusePage lets pages read why: a browser does not tell them why a WebSocket did not open,
// so they ask by a plain request. A page of a foreign origin learns that it is one, and nothing
// else, which could depend on whose cookies came.
func (ep *endpoint) refusePage(w http.ResponseWriter, r *http.Request, err error) {
	no, _ := errors.AsType[*refusal](err)
	if from := r.Header.Values("Origin"); len(from) == 1 && no != nil {
		if _, ok := ep.origins.Check(r); ok || no.counter == metrics.RefusedOrigin {
			allowPage(w.Header(), from[0])
			w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		}
		w.Header().Add("Vary", "Origin")
	}
	ep.refuse(w, err)
}

func (ep *endpoint) refuse(w http.ResponseWriter, err error) {
	no, ok := errors.AsType[*refusal](err)
	if !ok {
		no = newRefusal(http.StatusInternalServerError, "internal error", metrics.RefusedRequest)
	}
	ep.m.counters.Add(no.counter, 1)
	if no.status == http.StatusInternalServerError {
		ep.m.log.Once(slog.LevelError, "upgrade", no.message, "realtime: cannot upgrade: "+no.message)
	}
	if no.allow != "" {
		w.Header().Set("Allow", no.allow)
	}
	if no.wait > 0 {
		seconds := int64(no.wait / time.Second)
		if no.wait%time.Second > 0 {
			seconds++
		}
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	writeJSON(w, no.status, map[string]string{"error": no.message})
}

// writeJSON answers with a JSON body that nobody caches or guesses a type for.
func writeJSON(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that is gone needs no answer
}
