package realtime_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/memory"
)

// threats are the rows of docs/SECURITY.md, each with the tests that fail if its rule does
// not hold. Some of them stand for themselves too.
var threats = []struct {
	name  string
	tests []func(*testing.T)
}{
	{"01-origin", tests(TestOrigin, TestOriginOptions, TestPagesReadRefusals)},
	{"02-rebinding", tests(TestHosts, TestHostsOfREST)},
	{"03-downgrade", tests(TestOrigin, TestOriginSchemeBehindAProxy)},
	{"04-authentication", tests(TestHandshakeRefusals, TestRefusalsLeaveNothing)},
	{"05-tokens", tests(testTokensAreNotLogged, TestTickets, TestBearerToken)},
	{"06-expiry", tests(TestExpiry, TestRevalidate, TestRefresh, TestExpiredIdentityDoesNotComeIn)},
	{"07-revocation", tests(TestNobodySlipsBackIn, TestDisconnectTakesASecond, TestDenyUser, TestDenyRoom)},
	{"09-connections", tests(TestHandshakeRateOfAnAddress, TestHandshakeRateOfAll, TestConnectionsOfAnAddress, TestConnLimits)},
	{"10-slow-handshake", tests(TestNewServer, TestHandshakeRefusals)},
	{"11-big-message", tests(TestMessageSizeLimit)},
	{"12-message-flood", tests(TestFastClientWaitsAndLosesNothing, TestClientThatNeverSlowsDownIsEnded, TestFanoutIsLimited,
		TestPresenceOfManyAndOfNone, TestPrices)},
	{"13-control-flood", tests(TestSocketPingFlood)},
	{"14-endless-message", tests(TestSocketProtocolErrors, TestWhatIsBeingReadCounts)},
	{"15-half-open", tests(TestDeadPeerIsFoundOut, TestStaleAfterBoundsThePingInterval)},
	{"16-slow-reader", tests(TestStalledMemberDelaysNobody, TestStuckWriteIsCut, TestTheSlowestIsEndedFirst,
		TestAnswersThatAreNotRead)},
	{"17-compression", tests(TestCompressionIsNegotiated, TestCompressedFromClients)},
	{"18-utf8", tests(TestBadTextEndsOneConnection, TestSendChecksTheMessage)},
	{"19-stored-messages", tests(TestInboxSetsAside, TestInboxesAreBounded, TestInboxExists, TestInboxIsShared)},
	{"20-ambiguous-json", tests(TestTextThatIsNoCommandIsIgnored, TestV1Errors, TestV1Vectors)},
	{"21-names", tests(TestWireRefusesReservedNames, TestRestFailures)},
	{"22-keys", tests(testStreamsOfAnyName)},
	{"23-spoofing", tests(testSenderCannotBeSpoofed)},
	{"24-authorization", tests(testZeroValueRefusesEverything, TestRestRefusesEverythingWithoutAnAuthorizer, TestAuthorize,
		TestCallsAreRefused)},
	{"25-enumeration", tests(testForbiddenLooksLikeUnknown)},
	{"26-cross-site-requests", tests(TestRestFromForeignPages)},
	{"27-wrong-receiver", tests(TestExceptHoldsForWhoIsAboutToGo, TestRemoveFromRoom, TestSendTargets)},
	{"28-log", tests(TestLogCannotBeFlooded, TestRefusedOriginIsLoggedOnce)},
	{"29-panics", tests(TestPanicEndsOneConnection, TestHandlerThatEndsItsGoroutine)},
	{"30-any-input", tests(TestCompressedGarbage)},
	{"31-crowds", tests(TestManyRoomsComeAndGo)},
	{"32-close-frames", tests(TestSocketCloseHandshakes, TestConnCloseCodes)},
	{"33-caches", tests(TestHandshakeRefusals, TestRestContract)},
	{"34-supply-chain", tests(testSupplyChain)},
	{"35-pipelining", tests(TestSocketPipelinedFrames)},
	{"36-sessions", tests(TestResumeRefuses, TestThrowingOutWhoIsAbsent, TestResumeAndDeny, TestResumeAuthorizesAnew)},
	{"37-request-values", tests(TestConnContext)},
}

func tests(list ...func(*testing.T)) []func(*testing.T) { return list }

func TestSecurity(t *testing.T) {
	for _, threat := range threats {
		t.Run(threat.name, func(t *testing.T) {
			for _, test := range threat.tests {
				test(t)
			}
		})
	}
}

// The table in SECURITY.md has a row for each threat above, and names options that exist.
func TestSecurityIsDocumented(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| .* \\| `TestSecurity/([^`]+)` \\|$")
	var documented []string
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/SECURITY.md"), -1) {
		require.Equal(t, m[1], m[2][:2])
		documented = append(documented, m[2])
	}
	var tested []string
	for _, threat := range threats {
		tested = append(tested, threat.name)
	}
	require.Equal(t, tested, documented)
	options := reflect.TypeFor[realtime.Options]()
	for _, m := range regexp.MustCompile("`Options\\.([A-Za-z]+)`").FindAllStringSubmatch(read(t, "docs/SECURITY.md"), -1) {
		_, ok := options.FieldByName(m[1])
		require.True(t, ok, "Options.%s", m[1])
	}
}

// Wherever a client puts its secret, it is neither in the log nor in an answer.
func testTokensAreNotLogged(t *testing.T) {
	const secret = "SECRET-7d1f"
	var log bytes.Buffer
	answer := error(nil)
	o := realtime.Options{
		Logger:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authenticate: func(*http.Request) (realtime.Identity, error) { return realtime.Identity{}, answer },
		Authorize:    realtime.InsecureAllowAll,
	}
	rt := newManager(t, o)
	places := []func(*http.Request){
		func(r *http.Request) { r.URL.RawQuery = "token=" + secret },
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) },
		func(r *http.Request) { r.Header.Set("Cookie", "session="+secret) },
		func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "realtime.v1, bearer."+secret) },
	}
	for _, answer = range []error{nil, realtime.ErrForbidden, realtime.ErrUnauthenticated} {
		for _, put := range places {
			for _, spoil := range []string{"", "Upgrade", "Sec-WebSocket-Key"} {
				_, message, header := knock(t, rt, func(r *http.Request) {
					put(r)
					if spoil != "" {
						r.Header.Del(spoil)
					}
				})
				require.NotContains(t, message, secret)
				for _, values := range header {
					require.NotContains(t, strings.Join(values, ""), secret)
				}
			}
		}
	}
	require.NotEmpty(t, log.String())
	require.NotContains(t, log.String(), secret)
	log.Reset()
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for _, request := range []string{
			`{"type":"refresh","id":1,"token":"` + secret + `"}`, `{"type":"send","user":"bob","content":"` + secret + `"}`,
			`{"type":"send","id":1,"content":"` + secret + `"}`, secret,
		} {
			require.NotContains(t, strings.Join(alice.asks(request), ""), secret)
		}
	})
	require.NotContains(t, log.String(), secret)
}

// Who it comes from, and what the protocol itself says, is never up to a client.
func testSenderCannotBeSpoofed(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory, v1, bob := b.open("mallory"), b.openV1(realtime.Identity{UserID: "mallory"}), b.open("bob")
		v1.hush()
		bob.hush()
		const lies = `"sender_id":"alice","timestamp":1,"id":"x","offset":9,`
		require.NoError(t, mallory.Write([]byte(`{`+lies+`"message_type":"userleft","content":"hi","target":"bob"}`)))
		require.Equal(t, []string{"mallory: hi"}, bob.got())
		v1.asks(`{"sender_id":"alice","timestamp":1,"type":"send","user":"bob","content":"hi"}`)
		require.Equal(t, []string{`{"message_type":"chat","sender_id":"mallory","content":"hi","timestamp":946684800}`}, bob.raw())
		for _, typ := range []string{
			"welcome", "userjoined", "userleft", "ping", "pong", "reply", "error", "position", "skipped", "large",
		} {
			answer := v1.asks(`{"type":"send","id":1,"user":"bob","message_type":"` + typ + `"}`)
			require.Contains(t, answer[0], "bad_request")
		}
		require.Empty(t, bob.raw())
	})
}

// With nothing set, nothing that a client or a REST caller asks for is done.
func testZeroValueRefusesEverything(t *testing.T) {
	var asked atomic.Int32
	bubble(t, realtime.Options{Authorize: func(context.Context, *realtime.Conn, realtime.Action) error {
		asked.Add(1)
		return realtime.ErrForbidden
	}}, func(t *testing.T, b *bed) { requireAllRefused(t, b) })
	require.EqualValues(t, 11, asked.Load(), "each is an action that could be allowed; a refresh is not")
	synctest.Test(t, func(t *testing.T) {
		b := &bed{newManager(t, realtime.Options{}), t}
		requireAllRefused(t, b)
		require.EqualValues(t, 11+4, b.Stats().Denied)
		require.NoError(t, b.Close())
	})
}

func requireAllRefused(t *testing.T, b *bed) {
	alice, v1, bob := b.open("alice"), b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
	b.join("hall", bob)
	v1.hush()
	bob.hush()
	for _, target := range []string{"all", "room", "bob"} {
		alice.say("x", target)
	}
	for _, request := range []string{
		`{"type":"join","id":1,"room":"hall"}`, `{"type":"leave","id":1,"room":"hall"}`,
		`{"type":"send","id":1,"all":true}`, `{"type":"send","id":1,"room":"hall"}`,
		`{"type":"send","id":1,"user":"bob"}`, `{"type":"send","id":1,"conn":"` + bob.conn.ID() + `"}`,
		`{"type":"presence","id":1,"room":"hall"}`, `{"type":"call","id":1,"method":"anything"}`,
		`{"type":"refresh","id":1,"token":"x"}`,
	} {
		require.Equal(t, []string{`{"message_type":"error","id":1,"content":{"code":"forbidden","message":"forbidden"}}`},
			v1.asks(request), request)
	}
	h := b.API(nil)
	for _, ask := range []call{
		{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"hall"}`},
		{method: "POST", path: "/connections/" + bob.conn.ID() + "/leave"},
		{method: "GET", path: "/rooms/hall/users"}, {method: "GET", path: "/stats"},
	} {
		code, _, _ := rest(h, ask)
		require.Equal(t, http.StatusForbidden, code, "%+v", ask)
	}
	require.Empty(t, bob.got())
	require.Empty(t, alice.conn.Rooms())
	require.Equal(t, []string{"hall"}, bob.conn.Rooms())
	require.Zero(t, b.Stats().Messages)
}

// Who may not ask learns nothing about what there is.
func testForbiddenLooksLikeUnknown(t *testing.T) {
	forbid := func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	bubble(t, realtime.Options{Authorize: forbid}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.hush()
		h := b.API(func(*http.Request, realtime.Action) error { return realtime.ErrForbidden })
		same := func(a, z call) {
			codeA, bodyA, headerA := rest(h, a)
			codeZ, bodyZ, headerZ := rest(h, z)
			require.Equal(t, codeA, codeZ)
			require.Equal(t, bodyA, bodyZ)
			require.Equal(t, headerA, headerZ)
		}
		same(call{method: "GET", path: "/rooms/hall/users"}, call{method: "GET", path: "/rooms/none/users"})
		for _, verb := range []string{"join", "leave"} {
			same(call{method: "POST", path: "/connections/" + bob.conn.ID() + "/" + verb, body: `{"room_id":"hall"}`},
				call{method: "POST", path: "/connections/conn_none/" + verb, body: `{"room_id":"none"}`})
		}
		for _, verb := range []string{"join", "leave"} {
			require.Equal(t, v1.asks(`{"type":"`+verb+`","id":1,"room":"hall"}`), v1.asks(`{"type":"`+verb+`","id":1,"room":"none"}`))
		}
		for _, there := range []string{`"room":"hall"`, `"user":"bob"`, `"conn":"` + bob.conn.ID() + `"`} {
			none := regexp.MustCompile(`:"[^"]+"`).ReplaceAllString(there, `:"none"`)
			require.Equal(t, v1.asks(`{"type":"send","id":1,`+there+`}`), v1.asks(`{"type":"send","id":1,`+none+`}`))
		}
	})
	// Nor does he who may send learn whether anybody got it.
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.hush()
		require.Equal(t, v1.asks(`{"type":"send","id":1,"user":"bob"}`), v1.asks(`{"type":"send","id":1,"user":"none"}`))
	})
}

// TestManyRoomsComeAndGo: what a client joins and leaves is gone.
func TestManyRoomsComeAndGo(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for i := range 400 {
			room := `"room":"` + strings.Repeat("r", i%200+1) + `"`
			require.NoError(t, alice.Write([]byte(`{"type":"join",`+room+`}`)))
			require.NoError(t, alice.Write([]byte(`{"type":"leave",`+room+`}`)))
		}
		require.Empty(t, alice.raw())
		require.Zero(t, b.Stats().Rooms)
	})
}

// Three direct dependencies, and nothing that goes around the language.
func testSupplyChain(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	var direct []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		direct = append(direct, m[1])
	}
	slices.Sort(direct)
	require.Equal(t, []string{"github.com/coder/websocket", "github.com/google/uuid", "github.com/stretchr/testify"}, direct)
	for _, dir := range []string{".", "internal"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if dir == "." && d.IsDir() && path != "." {
				return filepath.SkipDir
			}
			if err == nil && strings.HasSuffix(path, ".go") {
				requirePlain(t, path)
			}
			return err
		}))
	}
}

func requirePlain(t *testing.T, path string) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	require.NoError(t, err)
	for _, imp := range f.Imports {
		require.NotContains(t, []string{`"unsafe"`, `"C"`, `"plugin"`}, imp.Path.Value, path)
	}
	for _, decl := range f.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			require.False(t, fn.Recv == nil && fn.Name.Name == "init", path)
		}
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			require.False(t, strings.HasPrefix(c.Text, "//go:linkname"), path)
		}
	}
}

// A stream's name is any bytes, and no name reaches another stream.
func testStreamsOfAnyName(t *testing.T) {
	brokertest.Run(t, func(*testing.T) broker.Broker { return memory.New(nil) })
}
