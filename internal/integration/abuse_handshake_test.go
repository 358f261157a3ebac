package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// handshakeAttacks are attacks by HTTP: on the handshake and on the REST interface.
func handshakeAttacks() []attack {
	const get, host = "GET /ws HTTP/1.1\r\n", "Host: site.example\r\n"
	return []attack{
		{name: "900 KB of headers", run: refused(431, get+host+"X: "+xs(900<<10)+"\r\n\r\n")},
		{name: "900 KB in one header name", run: refused(431, get+host+xs(900<<10))},
		{name: "900 KB of request line", run: refused(431, "GET /"+xs(900<<10))},
		{name: "101 headers", run: refused(431, handshake("mallory", headers(101-4)...))},
		{name: "many headers", run: refused(431, handshake("mallory", headers(2000)...))},
		{name: "no HTTP", run: refused(400, "hello\r\n\r\n")},
		{name: "HTTP/2 preface", run: refused(400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
		{name: "TLS to the plain port", run: refused(400, tlsHello+"\r\n\r\n")},
		{name: "NUL in the path", run: refused(400, "GET /\x00 HTTP/1.1\r\n"+host+"\r\n")},
		{name: "header without a colon", run: refused(400, get+host+"X\r\n\r\n")},
		{name: "two lengths", run: refused(400, get+host+
			"Content-Length: 1\r\nContent-Length: 2\r\n\r\n")},
		{name: "negative length", run: refused(400, get+host+"Content-Length: -1\r\n\r\n")},
		{name: "line break in the user", run: refused(400, handshake("a%0d%0aX:%20y"))},
		{name: "NUL in the user", run: refused(400, handshake("a%00"))},
		{name: "long user", run: refused(400, handshake(xs(256)))},
		{name: "user called all", run: refused(400, handshake("all"))},
		{name: "user called room", run: refused(400, handshake("room"))},
		{name: "no authentication", run: refused(401, handshake("stranger"))},
		{name: "foreign page", run: refused(403, handshake("mallory", "Origin: http://evil.example"))},
		{name: "two origins", run: refused(403, handshake("mallory",
			"Origin: http://site.example", "Origin: http://evil.example"))},
		{name: "upgrade by POST", run: refused(405,
			"POST"+strings.TrimPrefix(handshake("mallory"), "GET"))},
		{name: "GET with a body", run: bodies},
		{name: "150 bad keys", run: badKeys},
		{name: "5,000 refused handshakes", run: refusedHandshakes},
		{name: "2,000 connects without a byte", run: func(w *world) {
			err := together(scaled(2000), func(int) error {
				_, err := w.dial()
				return err
			})
			require.NoError(w.t, err)
			w.awaitMessages(20)
			require.EqualValues(w.t, 2, w.rt.Stats().Accepted)
		}},
		{name: "more than Limits.Conns", opts: realtime.Options{Limits: realtime.Limits{Conns: 12}}, run: tooMany(10, 503)},
		{name: "more than Limits.ConnsPerUser", run: tooMany(100, 429)},
		{name: "invalid REST calls", run: invalidCalls},
		{name: "REST with the id of another connection", run: stolenID},
		{name: "joins and leaves", opts: announced(), run: joinAndLeave},
		{name: "10 MB of body", run: refused(413, "POST /connections/x/join HTTP/1.1\r\n"+host+
			"Content-Length: 10485760\r\n\r\n"+xs(10<<20))},
		{name: "10 MB of chunks", run: refused(413, "POST /connections/x/join HTTP/1.1\r\n"+host+
			"Transfer-Encoding: chunked\r\n\r\n"+strings.Repeat("10000\r\n"+xs(1<<16)+"\r\n", 160))},
		{name: "unread answers", run: func(w *world) {
			c, calls := w.mustDial(), strings.Repeat("GET /stats HTTP/1.1\r\n"+host+"\r\n", 100_000)
			go func() { _, _ = io.WriteString(c, calls) }()
			w.awaitMessages(50)
		}},
	}
}

func headers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "X: y"
	}
	return all
}

// refused is an attack with a request that is answered with the given status.
func refused(status int, request string) func(*world) {
	return func(w *world) {
		res, _, err := w.request(request)
		require.NoError(w.t, err)
		require.Equal(w.t, status, res.StatusCode)
		require.EqualValues(w.t, 2, w.rt.Stats().Accepted, "the bystander and the speaker")
	}
}

// bodies sends handshakes with a body. The body is read as frames and never as a request.
func bodies(w *world) {
	const smuggled = "GET /rooms/lobby/users HTTP/1.1\r\nHost: site.example\r\n\r\n"
	for _, header := range []string{
		fmt.Sprint("Content-Length: ", len(smuggled)), "Transfer-Encoding: chunked",
		"Content-Length: 10\r\nExpect: 100-continue",
	} {
		res, c, err := w.request(handshake("mallory", header) + smuggled)
		require.NoError(w.t, err)
		require.Equal(w.t, http.StatusSwitchingProtocols, res.StatusCode)
		require.Equal(w.t, realtime.CloseProtocol, c.closed())
	}
	w.bystander.expect(w.t)
}

// badKeys is refused by the last check of a handshake, and releases the place that was reserved for
// it.
func badKeys(w *world) {
	bad := strings.Replace(handshake("mallory"), "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 1)
	for range 150 {
		refused(http.StatusBadRequest, bad)(w)
	}
	w.connect("mallory").send(chatFrame("a good one"))
	w.bystander.expect(w.t, "chat mallory: a good one")
}

// refusedHandshakes sends handshakes that are refused, several over each connection.
func refusedHandshakes(w *world) {
	const each = 20
	turns := scaled(5000) / each
	handshakes := []struct {
		request string
		status  int
	}{
		{handshake("mallory", "Origin: http://evil.example"), http.StatusForbidden},
		{handshake("stranger"), http.StatusUnauthorized},
	}
	err := together(turns, func(i int) error {
		k := handshakes[i%2]
		res, c, err := w.request(strings.Repeat(k.request, each))
		for n := range each {
			if err != nil || res.StatusCode != k.status {
				return fmt.Errorf("handshake %d: %v: %w", n, res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if n < each-1 {
				res, err = http.ReadResponse(c.br, nil)
			}
		}
		return nil
	})
	require.NoError(w.t, err)
	s := w.rt.Stats()
	require.EqualValues(w.t, (turns+1)/2*each, s.RefusedOrigin)
	require.EqualValues(w.t, turns/2*each, s.RefusedAuth)
	require.EqualValues(w.t, 2, s.Accepted)
	require.Equal(w.t, 2, s.Conns)
}

// tooMany opens more connections than are allowed. The excess is refused. After the connections are
// closed, another one is accepted.
func tooMany(places, status int) func(*world) {
	return func(w *world) {
		var in, out atomic.Int64
		err := together(places+50, func(int) error {
			res, _, err := w.request(handshake("mallory"))
			switch {
			case err != nil:
				return err
			case res.StatusCode == http.StatusSwitchingProtocols:
				in.Add(1)
			case res.StatusCode == status && res.Header.Get("Retry-After") != "":
				out.Add(1)
			}
			return nil
		})
		require.NoError(w.t, err)
		require.EqualValues(w.t, places, in.Load())
		require.EqualValues(w.t, 50, out.Load())
		w.closeSockets()
		w.awaitEnd()
		w.connect("mallory").send(chatFrame("in again"))
		w.bystander.expect(w.t, "chat mallory: in again")
	}
}

// invalidCalls makes invalid REST calls.
func invalidCalls(w *world) {
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/connections/x/join", `{"room_id":"` + xs(5000) + `"}`, 413},
		{"POST", "/connections/x/join", `{"room_id":"` + xs(256) + `"}`, 400},
		{"POST", "/connections/x/join", `{"room_id":`, 400},
		{"POST", "/connections/x/join", strings.Repeat("[", 4000), 400},
		{"POST", "/connections/x/join", `{"room_id":"a","room_id":"lobby"}`, 400},
		{"POST", "/connections/x/join", `{"ROOM_ID":"lobby"}`, 400},
		{"POST", "/connections/x/join", `{"room_id":null}`, 400},
		{"POST", "/connections/x/join", `{"room_id":"a\u0000"}`, 400},
		{"POST", "/connections/x/join", `{"room_id":"lobby"}`, 400},
		{"POST", "/connections/" + xs(10_000) + "/join", `{"room_id":"lobby"}`, 400},
		{"POST", "/connections/x/leave", ``, 400},
		{"GET", "/rooms/" + xs(10_000) + "/users", ``, 400},
		{"GET", "/rooms/" + xs(30_000) + "/users", ``, 431},
		{"GET", "/" + strings.Repeat("a/", 5000), ``, 404},
		{"GET", "/rooms/%00/users", ``, 400},
		{"GET", "/rooms/nobody/users", ``, 200},
		{"GET", "/rooms/%/users", ``, 400},
		{"DELETE", "/stats", ``, 405},
		{"PATCH", "/rooms/lobby/users", ``, 405},
	} {
		status, answer := w.callREST(x.method, x.path, x.body)
		require.Equal(w.t, x.status, status, "%s %.100s %.100s", x.method, x.path, x.body)
		if status == http.StatusOK {
			require.Contains(w.t, answer, `"user_count":0`)
		}
	}
	require.Equal(w.t, 1, w.rt.Stats().Rooms)
}

// stolenID calls the REST interface with the connection id of the bystander, but without
// permission.
func stolenID(w *world) {
	for c := range w.rt.User("bystander").LocalConns() {
		for _, call := range []string{"join", "leave"} {
			status, _ := w.callREST("POST", "/shut/connections/"+c.ID()+"/"+call, `{"room_id":"den"}`)
			require.Equal(w.t, http.StatusForbidden, status)
		}
		require.Equal(w.t, []string{"lobby"}, c.Rooms())
	}
}

// joinAndLeave joins and leaves a room again and again. Its members receive the notices.
func joinAndLeave(w *world) {
	c := w.connect("mallory@den")
	c.readToEnd()
	for conn := range w.rt.User("mallory@den").LocalConns() {
		for range 500 {
			for _, call := range []string{"join", "leave"} {
				status, _ := w.callREST("POST", "/connections/"+conn.ID()+"/"+call, `{"room_id":"lobby"}`)
				require.Equal(w.t, http.StatusOK, status)
			}
		}
	}
}
