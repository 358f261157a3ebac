package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wiretest"
)

// FuzzRest sends any path and body to the REST handler. The answer is JSON and never has the status
// 500.
func FuzzRest(f *testing.F) {
	f.Add("POST", "/connections/conn_x/join", `{"room_id":"a"}`)
	f.Add("POST", "/connections//join", `{"room_id":`)
	f.Add("GET", "/rooms/%2F%00/users", ``)
	f.Add("GET", "/stats", `x`)
	f.Add("HEAD", "/rooms/a/users", ``)
	rt := realtime.New(nil)
	f.Cleanup(func() { _ = rt.Close() })
	h := rt.API(realtime.InsecureAllowRequests)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{
			Method: method, URL: u, Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{}, Host: "x",
		})
		require.Contains(t, []int{200, 400, 404, 405, 413}, w.Code)
		require.Equal(t, w.Code == 405, w.Header().Get("Allow") != "")
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), "%q", w.Body)
		require.Equal(t, w.Code != 200, answer["error"] != nil)
	})
}

// FuzzRestBody sends any body to a join. It succeeds exactly if encoding/json finds one room_id in
// the body, and then joins that room.
func FuzzRestBody(f *testing.F) {
	for _, seed := range []string{
		`{"room_id":"a"}`, `{"room_id":"a","room_id":"b"}`, `{"room_id":"a","\u0072oom_id":"b"}`,
		`{"Room_id":"a"}`, `{"room_id":null}`, `{"room_id":"\ud800"}`, `{"room_id":"\ud83d\ude00"}`,
		`{"x":[{}],"room_id":"ü"} `, `{"room_id":" a"}`, `{"room_id":"a"}x`, "{\"room_id\":\"\xff\"}", ``, `[]`,
		`{"room_id":"` + strings.Repeat("x", 4096) + `"}`,
	} {
		f.Add(seed)
	}
	// the far end does not read, so it would not answer a ping
	rt := realtime.New(&realtime.Options{Timeouts: realtime.Timeouts{Ping: -1, Stale: -1}})
	f.Cleanup(func() { _ = rt.Close() })
	transport, far := realtime.Pipe()
	f.Cleanup(far.Drop)
	c, err := rt.Register(context.Background(), transport, realtime.Identity{UserID: "alice"})
	require.NoError(f, err)
	h := rt.API(realtime.InsecureAllowRequests)
	f.Fuzz(func(t *testing.T, body string) {
		code, answer, _ := callREST(h, restRequest{"POST", "/connections/" + c.ID() + "/join", body, nil})
		room, ok := wiretest.String(wiretest.Members([]byte(body))["room_id"])
		switch {
		case len(body) > 4096:
			require.Equal(t, 413, code)
		case !utf8.ValidString(body) || !ok || !validNameReference(room):
			require.Equal(t, 400, code)
		default:
			require.Equal(t, `{"status":"joined"}`, answer)
			require.Equal(t, []string{room}, c.Rooms())
			restPost(t, h, c.ID(), "leave", "")
		}
		require.Empty(t, c.Rooms())
	})
}

// validNameReference reports whether s is a name by the rules of docs/PROTOCOL.md.
func validNameReference(s string) bool {
	const spaces = "\u0020\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008" +
		"\u2009\u200A\u2028\u2029\u202F\u205F\u3000"
	for _, r := range s {
		if r < 0x20 || r >= 0x7F && r < 0xA0 {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 255 && utf8.ValidString(s) && strings.Trim(s, spaces) == s
}

// FuzzNames uses any string as the name of a user and of a room. It is accepted everywhere or
// refused everywhere, and is returned byte for byte.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{
		"a", "", " a", "a\u00a0", "all", "room", "a\x00", "\u0085", "a\u0080b", "\u202e", "%2F", "a/b", ".", "..", "?#",
		"\xff", "\"\\", "<&>\u2028x", strings.Repeat("ü", 127), strings.Repeat("ü", 128), "\ufeff", "\ufffd",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		valid := validNameReference(name)
		require.Equal(t, valid, realtime.ValidName(name) == nil)
		bubble(t, announced(), func(t *testing.T, b *bed) {
			h := b.API(realtime.InsecureAllowRequests)
			alice, other := b.open("alice"), b.dial(name)
			require.Equal(t, name == "" || valid && name != "all" && name != "room", other.err == nil)
			if other.err == nil {
				restPost(t, h, other.conn.ID(), "join", `{"room_id":"lobby"}`)
				requireUsers(t, h, "lobby", name)
				restPost(t, h, other.conn.ID(), "leave", "")
			}
			alice.discard()
			body, err := json.Marshal(map[string]string{"room_id": name})
			require.NoError(t, err)
			if !utf8.ValidString(name) {
				body = []byte(`{"room_id":"` + name + `"}`)
			}
			code, _, _ := callREST(h, restRequest{"POST", "/connections/" + alice.conn.ID() + "/join", string(body), nil})
			require.Equal(t, valid, code == 200)
			if valid {
				requireUsers(t, h, name, "alice")
				require.Contains(t, alice.got(), "alice in "+name)
			}
		})
	})
}

// requireUsers checks the users of a room by REST. An anonymous connection has no user.
func requireUsers(t *testing.T, h http.Handler, room, user string) {
	t.Helper()
	var got struct {
		Room  string   `json:"room_id"`
		Users []string `json:"users"`
	}
	require.NoError(t, json.Unmarshal([]byte(restGet(t, h, "/rooms/"+url.PathEscape(room)+"/users")), &got))
	require.Equal(t, room, got.Room)
	require.Equal(t, slices.DeleteFunc([]string{user}, func(s string) bool { return s == "" }), got.Users)
}

// FuzzInbound sends any text over a connection. The connection is ended only if the text is not
// UTF-8. A bystander receives the chat that encoding/json finds, and nothing else.
func FuzzInbound(f *testing.F) {
	for _, seed := range []string{
		"ping", `{"content":"hi","target":"bystander"}`, `{"content":"hi","target":"all"}`, "\xff", "",
		`{"content":"hi","target":"room"}`, `{"content":"hi","target":"\u0061ll","x":[]}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, binary bool) {
		if len(text) > maxMessage {
			return
		}
		bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
			alice, bystander := b.open("alice"), b.open("bystander")
			if binary {
				require.NoError(t, alice.WriteBinary(text))
			} else {
				require.NoError(t, alice.Write(text))
			}
			want := []string{"welcome"}
			members := wiretest.Members(text)
			content, ok := wiretest.String(members["content"])
			target, ok2 := wiretest.String(members["target"])
			if !binary && ok && ok2 && utf8.Valid(text) && (target == "all" || target == "bystander") {
				want = append(want, "alice: "+content)
			}
			require.Equal(t, want, bystander.got())
			require.Nil(t, bystander.ended())
			if binary || utf8.Valid(text) {
				require.Nil(t, alice.ended())
			} else {
				alice.requireEnd(realtime.CloseText)
			}
		})
	})
}

// FuzzStream sends any bytes over a connection that was opened by ServeHTTP. It compares the calls
// of the application, the answers and the end of the connection with a reference model of RFC 6455.
func FuzzStream(f *testing.F) {
	for _, c := range rfcCases(f) {
		if _, stream := c.verdict(); len(stream) < 2000 {
			f.Add([]byte(stream), false, uint8(0), uint8(len(stream)), c.deflate)
		}
	}
	pings := repeat(60, func(i int) string { return ping(string(rune('A' + i))) })
	pongs := repeat(51, func(int) string { return pong("") })
	f.Add([]byte(text("ping")+say("a")+text("ping")+closeFrame(1000, "")), false, uint8(9), uint8(0), false)
	f.Add([]byte(pings+say("a")), false, uint8(0), uint8(255), false)
	f.Add([]byte(pongs+say("a")), false, uint8(0), uint8(255), false)
	f.Add([]byte(inPieces(chat(sized(1000)), 100)+say(sized(1001))), false, uint8(50), uint8(99), true)
	hi := chat("hi")
	f.Add([]byte("\x81\x1f"+hi+"\x89\x02pp\x01\x05"+hi[:5]+"\x80\x1a"+hi[5:]+"\x88\x02\x03\xe8"), true, uint8(0), uint8(7), false)
	f.Add([]byte("\x81\x04ping\x01\x00\x8a\x00\x80\xc8"+chat(sized(200))+"\x82\x01\xff"), true, uint8(0), uint8(90), true)
	f.Fuzz(func(t *testing.T, stream []byte, framed bool, early, step uint8, deflate bool) {
		if framed {
			stream = frames(stream)
		}
		const limit = 1000
		var b *bed
		var seen []string
		var ends []ending
		o := realtime.Options{
			Authenticate: realtime.InsecureQueryUser, CompressFrom: 1 << 20,
			Limits: realtime.Limits{MessageBytes: limit, InboundRate: -1, InboundBytes: -1},
			OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
				seen = append(seen, in.Text)
				_, err := b.Send(ctx, realtime.ToConn(c.ID()), in.Message)
				return nil, err
			},
			OnDisconnect: func(_ context.Context, _ *realtime.Conn, why *realtime.CloseError) {
				ends = append(ends, ending{why.Cause, why.Code, why.Reason})
			},
		}
		bubble(t, o, func(t *testing.T, bubbled *bed) {
			b = bubbled
			ahead := min(int(early), len(stream))
			conn := newScriptedConn(string(stream[ahead:]), 1+int(step))
			b.ServeHTTP(hijackable{httptest.NewRecorder(), conn, string(stream[:ahead])}, upgradeRequest(deflate))
			synctest.Wait()

			out, closed := conn.written()
			require.True(t, closed, "still open")
			require.Len(t, ends, 1)
			v := readReference(string(stream), limit, deflate)
			v.requireSeen(t, seen, ahead > 0)
			if v.open {
				return
			}
			if v.end.cause != realtime.CauseClient {
				ends[0].reason = ""
			}
			require.Equal(t, v.end, ends[0])
			if ahead > 0 {
				return
			}
			if v.rest == "" {
				require.EqualValues(t, v.count, b.Stats().Received)
			}
			_, frames, ok := strings.Cut(out, "\r\n\r\n")
			require.True(t, ok)
			v.requireAnswers(t, "alice", serverFrames(t, frames))
		})
	})
}

// frames turns bytes into frames: one byte of header, one byte of length, and the payload. Without
// it, few inputs would be frames.
func frames(p []byte) (stream []byte) {
	for len(p) >= 2 {
		n := min(int(p[1]), len(p)-2)
		stream = append(stream, frame(p[0], string(p[2:2+n]))...)
		p = p[2+n:]
	}
	return stream
}

// requireSeen checks the messages that the application has received. Those sent before the answer
// to the handshake wait for it, and are ignored if the connection ends first.
func (v *expectation) requireSeen(t *testing.T, seen []string, ahead bool) {
	t.Helper()
	chats := v.chats()
	if v.open && len(seen) > len(chats) {
		seen = seen[:len(chats)]
	}
	if ahead && len(seen) < len(chats) {
		chats = chats[:len(seen)]
	}
	require.True(t, slices.Equal(chats, seen), "%q, not %q", seen, chats)
}

// FuzzHandshake sends any request to the endpoint: with free places, without free places, and after
// Close. The answer is as docs/PROTOCOL.md says, and nothing is left of the request.
func FuzzHandshake(f *testing.F) {
	const lines = "Host: a.example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
	const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + sampleKey + "\r\n"
	for _, seed := range []string{
		"GET /ws HTTP/1.1\r\n" + lines + key,
		"GET /ws?user_id=alice HTTP/1.1\r\n" + lines + key + "Sec-WebSocket-Extensions: permessage-deflate\r\n",
		"GET /ws?user_id=all HTTP/1.1\r\n" + lines + key,
		"GET /ws HTTP/1.1\r\n" + lines + key + "Origin: https://b.example.com\r\n",
		"GET /ws HTTP/1.1\r\n" + lines + key + "Origin: null\r\nOrigin: https://a.example.com\r\n",
		"GET /ws HTTP/1.1\r\n" + lines + strings.Replace(key, "13", "8", 1),
		"GET /ws HTTP/1.1\r\n" + lines + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n",
		"GET /ws HTTP/1.1\r\n" + lines + key + "Sec-WebSocket-Key: " + sampleKey + "\r\n",
		"GET /ws HTTP/1.0\r\n" + lines + key,
		"PRI * HTTP/2.0\r\n" + lines + key,
		"POST /ws HTTP/1.1\r\nContent-Length: 1\r\n" + lines + key,
		"GET /ws HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 101),
		"GET /ws HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("Connection: a\r\n", 99) + key,
		"CONNECT x:80 HTTP/1.1\r\n" + lines + key + "Sec-WebSocket-Protocol: chat\r\n",
	} {
		for state := range uint8(4) {
			f.Add([]byte(seed+"\r\n"), state)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, state uint8) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		user := r.URL.Query().Get("user_id")
		o := realtime.Options{
			Authenticate: realtime.InsecureQueryUser, CompressFrom: 1,
			Origins: []string{"https://*.example.com"}, Limits: realtime.Limits{Conns: 2, ConnsPerUser: 1},
		}
		bubble(t, o, func(t *testing.T, b *bed) {
			var others []*client
			allowed := []int{101, 400, 403, 405, 426, 431}
			switch state % 4 {
			case 1: // no place for any connection
				others = append(others, b.open("x"), b.open("y"))
				allowed = []int{400, 403, 405, 431, 503} // 400 for an invalid name
			case 2: // no place for this user, unless it is anonymous
				if c := b.dial(user); c.err == nil {
					others = append(others, c)
				}
				if len(others) > 0 && user != "" {
					allowed = []int{403, 405, 429, 431}
				}
			case 3:
				require.NoError(t, b.Close())
				allowed = []int{503}
			}
			w := hijackable{httptest.NewRecorder(), newScriptedConn("", 1), ""}
			b.ServeHTTP(w, r)
			synctest.Wait()
			requireHandshake(t, r, w, allowed)
			require.Equal(t, len(others), b.Stats().Conns)
			for _, c := range others {
				c.Drop()
			}
			synctest.Wait()
			require.Zero(t, b.Stats().Conns+b.Stats().Users)
			if state%4 != 3 { // each place was released
				require.True(t, b.dial(user).err == nil || !validNameReference(user) || user == "all" || user == "room")
				b.open("somebody else")
			}
		})
	})
}

// requireHandshake checks an answer of the endpoint.
func requireHandshake(t *testing.T, r *http.Request, w hijackable, allowed []int) {
	t.Helper()
	out, closed := w.conn.(*scriptedConn).written()
	require.Equal(t, closed, out != "")
	if out == "" {
		require.Contains(t, allowed, w.Code)
		var body map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), "%q", w.Body)
		require.NotEmpty(t, body["error"])
		require.Equal(t, w.Code == 405, w.Header().Get("Allow") == "GET")
		passes := w.Code == 429 || w.Code == 503 && body["error"] != "shutting down"
		require.Equal(t, passes, w.Header().Get("Retry-After") != "")
		return
	}
	require.Contains(t, allowed, 101)
	br := bufio.NewReader(strings.NewReader(out))
	res, err := http.ReadResponse(br, r)
	require.NoError(t, err)
	require.Equal(t, 101, res.StatusCode)
	// RFC 6455 sections 4.2.1 and 4.2.2.
	key := r.Header["Sec-Websocket-Key"]
	require.Len(t, key, 1)
	nonce, err := base64.StdEncoding.DecodeString(key[0])
	require.NoError(t, err)
	require.Len(t, nonce, 16)
	sum := sha1.Sum([]byte(key[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	require.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), res.Header.Get("Sec-WebSocket-Accept"))
	require.Equal(t, "GET", r.Method)
	require.True(t, r.ProtoMajor == 1 && r.ProtoMinor > 0)
	require.Equal(t, "13", r.Header.Get("Sec-WebSocket-Version"))
	for name, token := range map[string]string{"Upgrade": "websocket", "Connection": "upgrade"} {
		require.Contains(t, strings.ToLower(strings.Join(r.Header[name], ",")), token)
		require.Equal(t, token, strings.ToLower(res.Header.Get(name)))
	}
	offered := strings.Join(r.Header["Sec-Websocket-Extensions"], ",")
	require.Contains(t, []string{"", accepted}, res.Header.Get("Sec-WebSocket-Extensions"))
	require.True(t, res.Header.Get("Sec-WebSocket-Extensions") == "" || strings.Contains(offered, "permessage-deflate"))
	require.Empty(t, res.Header.Get("Sec-WebSocket-Protocol"), "no subprotocol")
	rest, err := io.ReadAll(br)
	require.NoError(t, err)
	frames := serverFrames(t, string(rest))
	require.Len(t, frames, 1)
	require.Equal(t, "welcome", shorthand(t, frames[0].payload))
}
