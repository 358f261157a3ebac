package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestOneLogLineForEachEnd(t *testing.T) {
	var log bytes.Buffer
	o := realtime.Options{Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.open("bob")
		require.NoError(t, bob.PipeClient.Close(4000, strings.Repeat("long ", 20)))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line: %s", log.String())
		require.Equal(t, "bob", line["user"])
		require.Equal(t, "client", line["cause"])
		require.EqualValues(t, 4000, line["code"])
		require.Len(t, line["reason"], 64, "text of peers is cut")
		require.Equal(t, "DEBUG", line["level"])
	})
}

func TestLogCannotBeFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		lines := func() []string { return strings.Split(strings.TrimSpace(log.String()), "\n") }
		debug := &slog.HandlerOptions{Level: slog.LevelDebug}
		o := realtime.Options{Logger: slog.New(slog.NewTextHandler(&log, debug)), Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{}, fmt.Errorf("name %q", "a\nb\x1b[31m")
		}, Limits: realtime.Limits{HandshakeRate: -1, HandshakeRatePerIP: -1}}
		rt := newManager(t, o)
		for range 1000 {
			refusedHandshake(t, rt, from("203.0.113.7:1"))
		}
		require.Len(t, lines(), 1)
		require.NotContains(t, lines()[0], "\x1b")
		time.Sleep(time.Second)
		refusedHandshake(t, rt, from("203.0.113.7:1"))
		require.Len(t, lines(), 2)
		require.Contains(t, lines()[1], "left_out=999")
		for i := range 5000 {
			refusedHandshake(t, rt, from(fmt.Sprintf("[2001:db8:0:%x::1]:1", i)))
		}
		require.LessOrEqual(t, len(lines()), 1100)
		time.Sleep(time.Second)
		refusedHandshake(t, rt, from("[2001:db8:1::1]:1"))
		require.Contains(t, lines()[len(lines())-1], "not authenticated")
		require.False(t, strings.Contains(strings.Join(lines(), ""), "\x1b"))
	})
}

func TestRefusedOriginIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	rt := newManager(t, realtime.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 10 {
		refusedHandshake(t, rt, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example\n") })
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.Contains(t, log.String(), "add it to Options.Origins")
	for i := range 1000 {
		refusedHandshake(t, rt, func(r *http.Request) { r.Header.Set("Origin", "http://"+strings.Repeat("x", i)) })
	}
	require.Less(t, strings.Count(log.String(), "\n"), 150, "a flood of names does not flood the log")
}

// The secret of a client is neither in the log nor in an answer, wherever the client sends it.
func TestTokensAreNotLogged(t *testing.T) {
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
				_, message, header := refusedHandshake(t, rt, func(r *http.Request) {
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
		alice.discard()
		for _, request := range []string{
			`{"type":"refresh","id":1,"token":"` + secret + `"}`, `{"type":"send","user":"bob","content":"` + secret + `"}`,
			`{"type":"send","id":1,"content":"` + secret + `"}`, secret,
		} {
			require.NotContains(t, strings.Join(alice.request(request), ""), secret)
		}
	})
	require.NotContains(t, log.String(), secret)
}
