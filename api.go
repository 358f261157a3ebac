package realtime

import (
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxBody bounds the body of a REST request.
const maxBody = 4 << 10

// API returns the handler of the REST interface. It looks at the end of the path
// only, so that it can be mounted under any prefix, stripped or not:
//
//	POST …/connections/{connection_id}/join    {"room_id":"…"}
//	POST …/connections/{connection_id}/leave
//	GET  …/rooms/{room_id}/users    or …/rooms/users?room_id=…
//	GET  …/stats
//
// A proxy may decode what is escaped in a path: a name with a slash is safe in the query.
//
// Each request is done only if allow returns nil; otherwise the answer is 403. A nil
// allow refuses all. Requests that a browser sends from a foreign page are refused
// as the endpoint refuses them, see Options.Origins.
func (m *Manager) API(allow RequestAuthorizer) http.Handler {
	a := &api{m: m, allow: allow}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limitBody(w, r)
		body, err := a.serve(r)
		if err == nil {
			writeJSON(w, http.StatusOK, body)
			return
		}
		if no, ok := errors.AsType[*refusal](err); ok && no.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", strings.TrimPrefix(no.message, "use "))
		}
		m.endpoint.refuse(w, err)
	})
}

type api struct {
	m     *Manager
	allow RequestAuthorizer
}

// Bodies of answers.
type (
	statusBody struct {
		Status string `json:"status"`
	}
	usersBody struct {
		RoomID    string   `json:"room_id"`
		Users     []string `json:"users"`
		UserCount int      `json:"user_count"`
	}
	statsBody struct {
		TotalConnections  uint64     `json:"total_connections"`
		ActiveConnections int        `json:"active_connections"`
		PeakConnections   int        `json:"peak_connections"`
		TotalMessages     uint64     `json:"total_messages"`
		MessagesPerSecond float64    `json:"messages_per_second"`
		LastStatsUpdate   *time.Time `json:"last_stats_update"`
	}
)

// serve finds out what is asked for and does it.
func (a *api) serve(r *http.Request) (any, error) {
	method, do := a.route(r)
	switch {
	case do == nil:
		return nil, newRefusal(http.StatusNotFound, "not found", metrics.RefusedRequest)
	case r.Method != method && !(r.Method == http.MethodHead && method == http.MethodGet):
		return nil, newRefusal(http.StatusMethodNotAllowed, "use "+method, metrics.RefusedRequest)
	}
	if err := a.checkPage(r); err != nil {
		return nil, err
	}
	return do(r)
}

// route looks at the last segments of the path, which is still escaped.
func (a *api) route(r *http.Request) (method string, do func(*http.Request) (any, error)) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	last := func(i int) string { // the i-th from the end, unescaped
		if i > len(segments) {
			return ""
		}
		s, err := url.PathUnescape(segments[len(segments)-i])
		if err != nil {
			return ""
		}
		return s
	}
	switch {
	case last(1) == "stats":
		return http.MethodGet, a.stats
	case last(2) == "rooms" && last(1) == "users" && r.URL.Query().Has("room_id"):
		return http.MethodGet, func(r *http.Request) (any, error) {
			names := r.URL.Query()["room_id"]
			if len(names) > 1 { // two readers could take either
				return nil, newRefusal(http.StatusBadRequest, "invalid room_id", metrics.RefusedRequest)
			}
			return a.users(r, names[0])
		}
	case last(3) == "rooms" && last(1) == "users":
		return http.MethodGet, func(r *http.Request) (any, error) { return a.users(r, last(2)) }
	case last(3) == "connections" && last(1) == "join":
		return http.MethodPost, func(r *http.Request) (any, error) { return a.join(r, last(2)) }
	case last(3) == "connections" && last(1) == "leave":
		return http.MethodPost, func(r *http.Request) (any, error) { return a.leave(r, last(2)) }
	}
	return "", nil
}

// checkPage refuses requests of foreign pages, and for foreign hosts. A browser says where a
// request comes from; other clients say nothing and carry no cookies that a page could
// misuse.
func (a *api) checkPage(r *http.Request) error {
	if name, ok := a.m.endpoint.hosts.Check(r, false); !ok {
		return a.m.endpoint.refuseHost(name)
	}
	if from, ok := a.m.endpoint.origins.Check(r); !ok {
		return a.m.endpoint.refuseOrigin(from)
	}
	page := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	if r.Method == http.MethodPost && page {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/json" {
			const message = "content type must be application/json"
			return newRefusal(http.StatusUnsupportedMediaType, message, metrics.RefusedRequest)
		}
	}
	return nil
}

// permit asks the authorizer.
func (a *api) permit(r *http.Request, what Action) error {
	if a.allow != nil && a.allow(r, what) == nil {
		return nil
	}
	if a.allow == nil {
		a.m.log.Once(slog.LevelWarn, "api", "", "realtime: a REST call was refused because "+
			"nothing allows it: give Manager.API an authorizer")
	}
	return newRefusal(http.StatusForbidden, "forbidden", metrics.Denied)
}

func (a *api) stats(r *http.Request) (any, error) {
	if err := a.permit(r, Action{Kind: ActionStats}); err != nil {
		return nil, err
	}
	s := a.m.Stats()
	body := statsBody{
		TotalConnections:  s.Accepted,
		ActiveConnections: s.Conns,
		PeakConnections:   s.PeakConns,
		TotalMessages:     s.Messages,
		MessagesPerSecond: s.Rate,
	}
	if !s.Updated.IsZero() {
		at := s.Updated.UTC()
		body.LastStatsUpdate = &at
	}
	return body, nil
}

func (a *api) users(r *http.Request, room string) (any, error) {
	if err := a.permit(r, Action{Kind: ActionMembers, Room: room}); err != nil {
		return nil, err
	}
	users, err := a.m.Room(room).Members(r.Context())
	if err != nil {
		return nil, newRefusal(http.StatusBadRequest, "invalid room_id", metrics.RefusedRequest)
	}
	return usersBody{RoomID: room, Users: users, UserCount: len(users)}, nil
}

func (a *api) join(r *http.Request, connID string) (any, error) {
	room, err := roomOf(r)
	if err != nil {
		return nil, err
	}
	began := a.m.revocations.Begin()
	defer a.m.revocations.End()
	if err := a.permit(r, Action{Kind: ActionJoin, Room: room, Conn: connID}); err != nil {
		return nil, err
	}
	c := a.m.Conn(connID)
	if c == nil {
		return nil, errNoConn()
	}
	if err := a.m.joins.apiJoin(r.Context(), c, room, began); err != nil {
		return nil, joinRefusal(err)
	}
	return statusBody{"joined"}, nil
}

func (a *api) leave(r *http.Request, connID string) (any, error) {
	if err := a.permit(r, Action{Kind: ActionLeave, Conn: connID}); err != nil {
		return nil, err
	}
	c := a.m.Conn(connID)
	if c == nil {
		return nil, errNoConn()
	}
	a.m.joins.apiLeave(c)
	return statusBody{"left"}, nil
}

func errNoConn() error {
	return newRefusal(http.StatusBadRequest, "Connection not found", metrics.RefusedRequest)
}

// joinRefusal is the answer to a join that failed.
func joinRefusal(err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return errNoConn()
	case errors.Is(err, ErrDenied):
		return forbidden(err)
	case errors.Is(err, ErrTooManyRooms):
		return later(http.StatusTooManyRequests, "too many rooms", metrics.RefusedLimit, retryAfter)
	default:
		return newRefusal(http.StatusBadRequest, "invalid room_id", metrics.RefusedRequest)
	}
}

// roomOf reads the body of a join.
func roomOf(r *http.Request) (string, error) {
	p, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return "", newRefusal(http.StatusBadRequest, "cannot read the body", metrics.RefusedRequest)
	case len(p) > maxBody:
		return "", newRefusal(http.StatusRequestEntityTooLarge, "body too large", metrics.RefusedRequest)
	}
	var values [1][]byte
	if !utf8.Valid(p) || wire.Members(p, []string{"room_id"}, values[:]) != nil {
		return "", newRefusal(http.StatusBadRequest, "body must be a JSON object", metrics.RefusedRequest)
	}
	room, ok := wire.JSONString(values[0])
	if !ok || ValidName(room) != nil {
		return "", newRefusal(http.StatusBadRequest, "invalid room_id", metrics.RefusedRequest)
	}
	return room, nil
}

//go:embed js/dist/realtime.js
var clientJS string

// ClientJS serves the browser client: a JavaScript module without dependencies, of the same
// version as the server. It is the same for everybody, needs no authorisation, and pages of
// any origin may import it.
//
//	mux.Handle("GET /realtime.js", rt.ClientJS())
//
// A page then has
//
//	import { connect } from "/realtime.js"
func (*Manager) ClientJS() http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(clientJS)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-cache") // asks each time, and is told that nothing has changed
		h.Set("ETag", tag)
		h.Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(clientJS))
	})
}
