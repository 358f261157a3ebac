package realtime

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
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

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxBody is the maximum size of the body of a REST request, in bytes.
const maxBody = 4 << 10

// API returns the handler of the REST interface. It matches the end of the path only, so it can be
// mounted under any prefix, stripped or not:
//
//	POST …/connections/{connection_id}/join    {"room_id":"…"}
//	POST …/connections/{connection_id}/leave
//	GET  …/rooms/{room_id}/users      or …/rooms/users?room_id=…
//	GET  …/rooms/{room_id}/members    or …/rooms/members?room_id=…
//	GET  …/stats
//
// A room must show its members, or their number, see Options.Show; otherwise a request for them is
// answered with 403. The users are listed in any case.
//
// Proxies may decode escaped characters of a path: for a room whose name contains a slash, use the
// form with the query.
//
// allow decides about each request. If it returns an error, the answer is 403. If allow is nil, all
// requests are refused. Requests from pages of foreign origins and for foreign hosts are refused,
// see Options.Origins and Options.AllowedHosts.
func (m *Manager) API(allow RequestAuthorizer) http.Handler {
	a := &api{m: m, allow: allow}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limitBody(w, r)
		if body, err := a.serve(r); err != nil {
			m.endpoint.refuse(w, err)
		} else {
			writeJSON(w, http.StatusOK, body)
		}
	})
}

type api struct {
	m     *Manager
	allow RequestAuthorizer
}

// The bodies of responses.
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

// serve executes a request and returns the body of the response.
func (a *api) serve(r *http.Request) (any, error) {
	method, call := a.route(r)
	switch {
	case call == nil:
		return nil, newRefusal(http.StatusNotFound, "not found", metrics.RefusedRequest)
	case r.Method != method && !(r.Method == http.MethodHead && method == http.MethodGet):
		return nil, wrongMethod(method)
	}
	if err := a.checkPage(r); err != nil {
		return nil, err
	}
	return call(r)
}

// route returns the call that the last segments of the path name, and its method.
//
// It does not use http.ServeMux: a pattern of a ServeMux matches a path from its beginning, and the
// prefix is not known here. A ServeMux would also redirect paths, and answer 404 and 405 itself,
// without JSON and without counting.
func (a *api) route(r *http.Request) (method string, call func(*http.Request) (any, error)) {
	segments := strings.Split("//"+r.URL.EscapedPath(), "/") // at least three
	segments = segments[len(segments)-3:]
	for i, escaped := range segments {
		segments[i], _ = url.PathUnescape(escaped) // an invalid segment becomes empty
	}
	kind, name, verb := segments[0], segments[1], segments[2]
	list := map[string]listRoom{"users": a.users, "members": a.members}[verb]
	switch {
	case verb == "stats":
		return http.MethodGet, a.stats
	case list != nil && name == "rooms" && r.URL.Query().Has("room_id"):
		return http.MethodGet, func(r *http.Request) (any, error) { return listQuery(r, list) }
	case list != nil && kind == "rooms":
		return http.MethodGet, func(r *http.Request) (any, error) { return list(r, name) }
	case verb == "join" && kind == "connections":
		return http.MethodPost, func(r *http.Request) (any, error) { return a.join(r, name) }
	case verb == "leave" && kind == "connections":
		return http.MethodPost, func(r *http.Request) (any, error) { return a.leave(r, name) }
	}
	return "", nil
}

// checkPage refuses requests of pages of foreign origins, and requests for foreign hosts. Browsers
// send the origin of a request. Other clients do not, and they send no cookies that a page could
// misuse.
func (a *api) checkPage(r *http.Request) error {
	if name, ok := a.m.endpoint.hosts.Check(r, false); !ok {
		return a.m.endpoint.refuseHost(name)
	}
	if from, ok := a.m.endpoint.origins.Check(r); !ok {
		return a.m.endpoint.refuseOrigin(from)
	}
	fromPage := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	if r.Method == http.MethodPost && fromPage {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/json" {
			const message = "content type must be application/json"
			return newRefusal(http.StatusUnsupportedMediaType, message, metrics.RefusedRequest)
		}
	}
	return nil
}

// permit asks the authorizer.
func (a *api) permit(r *http.Request, action Action) error {
	if a.allow != nil && a.allow(r, action) == nil {
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

// listRoom lists who is in a room.
type listRoom func(r *http.Request, room string) (any, error)

// listQuery lists who is in the room of the query. It refuses a query with several rooms, because
// two readers of such a URL could take different ones.
func listQuery(r *http.Request, list listRoom) (any, error) {
	rooms := r.URL.Query()["room_id"]
	if len(rooms) > 1 {
		return nil, invalidRoom()
	}
	return list(r, rooms[0])
}

func invalidRoom() error {
	return newRefusal(http.StatusBadRequest, "invalid room_id", metrics.RefusedRequest)
}

func (a *api) users(r *http.Request, room string) (any, error) {
	if err := a.permit(r, Action{Kind: ActionMembers, Room: room}); err != nil {
		return nil, err
	}
	users, err := a.m.Room(room).Users(r.Context())
	switch {
	case errors.Is(err, ErrInvalidName):
		return nil, invalidRoom()
	case err != nil: // other nodes do not answer
		return nil, roomUnavailable()
	}
	return usersBody{RoomID: room, Users: users, UserCount: len(users)}, nil
}

// members returns what clients learn of the members of a room: the answer to their request for
// presence, with the room.
func (a *api) members(r *http.Request, room string) (any, error) {
	if err := a.permit(r, Action{Kind: ActionMembers, Room: room}); err != nil {
		return nil, err
	}
	if ValidName(room) != nil {
		return nil, invalidRoom()
	}
	policy := a.m.policyOf(room)
	if policy.show == ShowNothing {
		const message = "the room does not show its members"
		return nil, newRefusal(http.StatusForbidden, message, metrics.Denied)
	}
	var content []byte
	absent := a.m.rooms.listAbsent(r.Context(), room, policy)
	a.m.rooms.inspect(room, absent, func(l *memberList) { content = l.content })
	body := append(wire.AppendString([]byte(`{"room_id":`), room), ',')
	return json.RawMessage(append(body, content[1:]...)), nil
}

func (a *api) join(r *http.Request, connID string) (any, error) {
	room, err := roomOf(r)
	if err != nil {
		return nil, err
	}
	a.m.node.Wait(r.Context()) // so that removals at other nodes are known
	began := a.m.revocations.Begin()
	defer a.m.revocations.End()
	if err := a.permit(r, Action{Kind: ActionJoin, Room: room, Conn: connID}); err != nil {
		return nil, err
	}
	if c := a.m.Conn(connID); c != nil {
		err = a.m.restJoin(r.Context(), c, room, began)
	} else {
		err = a.joinElsewhere(r.Context(), connID, room, began)
	}
	if err != nil {
		return nil, a.joinRefusal(r.Context(), err)
	}
	return statusBody{"joined"}, nil
}

// restJoin is a join of the REST interface, of a connection in this process.
func (m *Manager) restJoin(ctx context.Context, c *Conn, room string, began admission.Decision) error {
	if m.events.wait(ctx, c) != nil || m.events.waitSpace(ctx, room) != nil {
		return ErrUnavailable
	}
	return m.joins.apiJoin(ctx, c, room, began)
}

// joinElsewhere is a join of a connection in another process. That does not know who was removed while
// this one decided.
func (a *api) joinElsewhere(
	ctx context.Context, connID, room string, began admission.Decision,
) error {
	removed, ok := a.m.revocations.Removed(began, room)
	if !ok {
		return ErrDenied
	}
	_, err := a.m.atNode(ctx, askRestJoin, &ask{Conn: connID, Room: room, Users: removed})
	return err
}

func (a *api) leave(r *http.Request, connID string) (any, error) {
	if err := a.permit(r, Action{Kind: ActionLeave, Conn: connID}); err != nil {
		return nil, err
	}
	if c := a.m.Conn(connID); c != nil {
		a.m.joins.apiLeave(c)
	} else if _, err := a.m.atNode(r.Context(), askRestLeave, &ask{Conn: connID}); err != nil {
		return nil, a.joinRefusal(r.Context(), err)
	}
	return statusBody{"left"}, nil
}

func errNoConn() error {
	return newRefusal(http.StatusBadRequest, "Connection not found", metrics.RefusedRequest)
}

// joinRefusal returns the refusal for the error of a join. The name of the room is the only thing
// that the caller can get wrong; any other error is one of the broker.
func (a *api) joinRefusal(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrNotFound):
		return errNoConn()
	case errors.Is(err, ErrUnavailable):
		return roomUnavailable()
	case errors.Is(err, ErrDenied):
		return forbidden(err)
	case errors.Is(err, ErrTooManyRooms):
		const status = http.StatusTooManyRequests
		return retryLater(status, "too many rooms", metrics.RefusedLimit, retryAfter)
	case errors.Is(err, ErrInvalidName):
		return invalidRoom()
	default:
		if !errors.Is(ctx.Err(), context.Canceled) { // else the caller has hung up
			a.m.fetcher.Failed(ctx, err)
		}
		return roomUnavailable()
	}
}

func roomUnavailable() error {
	const status = http.StatusServiceUnavailable
	return retryLater(status, "room unavailable", metrics.RefusedRequest, retryAfter)
}

// roomOf returns the room in the body of a join.
func roomOf(r *http.Request) (string, error) {
	p, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return "", newRefusal(http.StatusBadRequest, "cannot read the body", metrics.RefusedRequest)
	case len(p) > maxBody:
		const status = http.StatusRequestEntityTooLarge
		return "", newRefusal(status, "body too large", metrics.RefusedRequest)
	}
	var values [1][]byte
	if !utf8.Valid(p) || wire.Members(p, []string{"room_id"}, values[:]) != nil {
		const message = "body must be a JSON object"
		return "", newRefusal(http.StatusBadRequest, message, metrics.RefusedRequest)
	}
	room, ok := wire.JSONString(values[0])
	if !ok || ValidName(room) != nil {
		return "", invalidRoom()
	}
	return room, nil
}

//go:embed js/dist/realtime.js
var clientJS string

// ClientJS returns a handler that serves the browser client: a JavaScript module without
// dependencies, of the same version as the server. The response is the same for all requests. It
// needs no authorisation, and pages of any origin may import the module.
//
//	mux.Handle("GET /realtime.js", rt.ClientJS())
//
// A page then imports it:
//
//	import { connect } from "/realtime.js"
func (*Manager) ClientJS() http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(clientJS)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-cache") // browsers revalidate it by its ETag
		h.Set("ETag", tag)
		h.Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(clientJS))
	})
}
