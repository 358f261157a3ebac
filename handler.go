package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
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
	// retryAfter is the Retry-After of a response to a request beyond a limit.
	retryAfter = 5 * time.Second
	// bodyTimeout is how long the body of a request may take.
	bodyTimeout = 5 * time.Second
)

// NewServer returns an http.Server for addr, see http.Server.Addr, with limits that a server of
// long-lived connections needs and that a handler cannot set: 5 s for the header of a request,
// 16 KiB of headers, and 60 s between requests. It does not start the server.
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
	ref := newRefusal(http.StatusForbidden, "denied", metrics.RefusedAuth)
	if denied, ok := errors.AsType[*admission.DeniedError](err); ok {
		ref.wait = denied.Left
	}
	return ref
}

// wrongMethod returns the refusal of a request whose method is not the allowed one.
func wrongMethod(allowed string) *refusal {
	ref := newRefusal(http.StatusMethodNotAllowed, "use "+allowed, metrics.RefusedRequest)
	ref.allow = allowed
	return ref
}

func (e *refusal) Error() string { return e.message }

// asRefusal returns err as a refusal. Any other error is an internal error, whose text is not sent.
func asRefusal(err error) *refusal {
	if ref, ok := errors.AsType[*refusal](err); ok {
		return ref
	}
	return newRefusal(http.StatusInternalServerError, "internal error", metrics.RefusedRequest)
}

// ServeHTTP is the WebSocket endpoint. It checks origin, limits and identity before the upgrade. If
// it refuses a request, the response is plain HTTP with a JSON error: 400, 401, 403, 405, 426, 429,
// 431 or 503; or 500 if the ResponseWriter cannot be hijacked.
//
// It returns when the connection is open, so that middleware ends then. The connection keeps
// nothing of the context of the request, see Options.ConnContext.
//
// It can be mounted under any path, on net/http and on each router whose ResponseWriter can be
// hijacked.
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
	id, err := ep.checkRequest(r, from)
	if err != nil {
		ep.refuseWithCORS(w, r, err)
		return
	}
	key, err := presenceKey(r)
	if err != nil {
		ep.refuseWithCORS(w, r, err)
		return
	}
	ctx := ep.connContext(r) // it may panic, so before a place is reserved
	e := candidate{user: id.UserID, address: admission.AddrKey(from), began: began, key: key}
	if err := refusalOf(m.registry.reserve(e)); err != nil {
		ep.refuseWithCORS(w, r, err)
		return
	}
	// The handshake is checked last, so that a plain request gets the reason for which an upgrade
	// would be refused: a browser does not tell a page why its WebSocket failed.
	if status, hint := transport.CheckHandshake(w, r); status != 0 {
		m.registry.cancel(e)
		ep.refuseWithCORS(w, r, newRefusal(status, hint, metrics.RefusedRequest))
		return
	}
	t, err := ep.upgrader.Upgrade(w, r, ep.remote(r, from))
	if err != nil { // Upgrade has sent a response
		m.registry.cancel(e)
		m.counters.Add(metrics.RefusedRequest, 1)
		m.log.Log(r.Context(), slog.LevelDebug, e.address.String(), "realtime: upgrade failed",
			slog.Any("error", err))
		return
	}
	_, _ = m.registry.register(ctx, t, id, e) // an error ended t, and its end is logged
}

// maxPresenceKey is the length of the longest presence key, in bytes.
const maxPresenceKey = 32

// presenceKey returns the key that a client has chosen for what others see of it in rooms, or "".
func presenceKey(r *http.Request) (string, error) {
	if !strings.Contains(r.URL.RawQuery, "presence_key") {
		return "", nil
	}
	key := r.URL.Query().Get("presence_key")
	if key != "" && (len(key) > maxPresenceKey || names.Check(key) != nil) {
		const message = "invalid presence_key: want a name of at most 32 bytes"
		return "", newRefusal(http.StatusBadRequest, message, metrics.RefusedRequest)
	}
	return key, nil
}

// derivedKey is the key of a value in the context that is passed to Options.ConnContext. A context
// without the value is not derived from that one.
type derivedKey struct{}

// connContext returns the context from which the context of the connection is derived. It does not
// keep the context of the request: some routers reuse it for other requests when the handler has
// returned.
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

// limitBody bounds how long the body of a request may take. A server of long-lived connections has
// no such timeout. Without a bound it waits for a body forever before it writes the response, even
// if no handler reads the body.
func limitBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// Some ResponseWriters do not support deadlines.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}

// remote returns the address of a client for humans. It has a port, unless the request came through
// a proxy.
func (ep *endpoint) remote(r *http.Request, from netip.Addr) string {
	if from == admission.Peer(r) {
		return r.RemoteAddr
	}
	return from.String()
}

// checkRequest returns the identity behind a request, or a refusal. The cheapest checks come first.
func (ep *endpoint) checkRequest(r *http.Request, from netip.Addr) (Identity, error) {
	if ep.m.capacity.Closed() {
		return Identity{}, refusalOf(ErrClosed)
	}
	if wait := ep.m.addresses.Attempt(admission.AddrKey(from)); wait > 0 {
		const status = http.StatusTooManyRequests
		return Identity{}, retryLater(status, "too many attempts", metrics.RefusedLimit, wait)
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

// lacksOrigin reports whether a request would open a connection and has no Origin header. A request
// that would not may be from a page that asks for the reason of a refusal: for that, a browser
// sends no Origin header to the page's own server.
func lacksOrigin(r *http.Request) bool {
	return r.Header.Get("Origin") == "" && transport.HasToken(r.Header, "Upgrade", "websocket")
}

func (ep *endpoint) authenticate(r *http.Request, from netip.Addr) (id Identity, err error) {
	if ticket, ok := ticketOf(r); ok {
		id, err = ep.m.redeem(r.Context(), ticket)
	} else if ep.m.opts.Authenticate != nil {
		id, err = ep.m.opts.Authenticate(r)
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		const status = http.StatusServiceUnavailable
		return id, retryLater(status, temporarilyUnavailable, metrics.RefusedAuth, retryAfter)
	case errors.Is(err, ErrForbidden):
		return id, newRefusal(http.StatusForbidden, "forbidden", metrics.RefusedAuth)
	case err != nil:
		ep.m.log.Log(r.Context(), slog.LevelDebug, admission.AddrKey(from).String(),
			"realtime: not authenticated", slog.Any("error", err))
		return id, newRefusal(http.StatusUnauthorized, "not authenticated", metrics.RefusedAuth)
	}
	switch err := id.validate(); {
	case errors.Is(err, ErrUnauthenticated):
		return id, newRefusal(http.StatusUnauthorized, "not authenticated", metrics.RefusedAuth)
	case err != nil:
		message := "invalid device"
		if id.UserID != "" && names.CheckUser(id.UserID) != nil {
			message = "invalid user id"
		}
		return id, newRefusal(http.StatusBadRequest, message, metrics.RefusedAuth)
	}
	return id, nil
}

// checkHeaders refuses requests with more or longer headers than a handshake has.
func checkHeaders(h http.Header) error {
	n, bytes := 0, 0
	for name, values := range h {
		n += len(values)
		for _, v := range values {
			bytes += len(name) + len(v)
		}
	}
	if n > maxHeaders || bytes > maxHeaderBytes {
		const status = http.StatusRequestHeaderFieldsTooLarge
		return newRefusal(status, "too many headers", metrics.RefusedRequest)
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

// refusalOf returns the refusal for an error of admission, nil for nil.
func refusalOf(err error) error {
	const unavailable = http.StatusServiceUnavailable
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDenied):
		return forbidden(err)
	case errors.Is(err, ErrClosed):
		// Without Retry-After, which is at least one second: the next server may start sooner.
		return newRefusal(unavailable, "shutting down", metrics.RefusedShutdown)
	case errors.Is(err, errUserFull), errors.Is(err, admission.ErrAddressFull):
		const message = "too many connections of yours"
		return retryLater(http.StatusTooManyRequests, message, metrics.RefusedLimit, retryAfter)
	case errors.Is(err, ErrOverloaded):
		return retryLater(unavailable, "short of memory", metrics.RefusedLimit, retryAfter)
	default:
		return retryLater(unavailable, "too many connections", metrics.RefusedLimit, retryAfter)
	}
}

// preflight answers a CORS preflight from a page of an allowed origin, and reports whether the
// request was one. A browser sends it before a page may ask, with a token, why its WebSocket did
// not open.
func (ep *endpoint) preflight(w http.ResponseWriter, r *http.Request) bool {
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || method != http.MethodGet {
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

// allowPage lets a page of this origin read the response to a request that had cookies.
func allowPage(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
}

// refuseWithCORS is refuse with the headers that let a page read the reason. A browser does not tell a
// page why its WebSocket did not open, so the page asks with a plain request. A page of a foreign
// origin can read only that its origin is foreign: other reasons could depend on the user whose
// cookies the browser sent.
func (ep *endpoint) refuseWithCORS(w http.ResponseWriter, r *http.Request, err error) {
	ref := asRefusal(err)
	if from := r.Header.Values("Origin"); len(from) == 1 {
		if _, ok := ep.origins.Check(r); ok || ref.counter == metrics.RefusedOrigin {
			allowPage(w.Header(), from[0])
			w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		}
		w.Header().Add("Vary", "Origin")
	}
	ep.refuse(w, ref)
}

// refuse answers a request that is refused with err.
func (ep *endpoint) refuse(w http.ResponseWriter, err error) {
	ref := asRefusal(err)
	ep.m.counters.Add(ref.counter, 1)
	if ref.status == http.StatusInternalServerError {
		ep.m.log.Once(slog.LevelError, "upgrade", ref.message,
			"realtime: cannot upgrade: "+ref.message)
	}
	if ref.allow != "" {
		w.Header().Set("Allow", ref.allow)
	}
	if ref.wait > 0 {
		seconds := int64(ref.wait / time.Second)
		if ref.wait%time.Second > 0 {
			seconds++
		}
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	writeJSON(w, ref.status, map[string]string{"error": ref.message})
}

// writeJSON sends a response with a JSON body. Its headers forbid caching, and guessing the type.
func writeJSON(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has disconnected
}
