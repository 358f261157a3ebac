package realtime_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// FuzzRest gives any path and body to the REST handler: it answers JSON, never 500.
func FuzzRest(f *testing.F) {
	f.Add("POST", "/connections/conn_x/join", `{"room_id":"a"}`)
	f.Add("POST", "/connections//join", `{"room_id":`)
	f.Add("GET", "/rooms/%2F%00/users", ``)
	f.Add("GET", "/stats", `x`)
	rt := realtime.New(nil)
	h := rt.API(realtime.InsecureAllowRequests)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{
			Method: method, URL: u, Body: http.NoBody, Header: http.Header{}, Host: "x",
		})
		r := httptest.NewRequest("POST", "/connections/conn_x/join", strings.NewReader(body))
		h.ServeHTTP(w, r)
		require.NotEqual(t, http.StatusInternalServerError, w.Code)
		dec := json.NewDecoder(w.Body)
		for dec.More() {
			require.NoError(t, dec.Decode(&map[string]any{}))
		}
	})
}

// FuzzInbound gives any text to a connection. It is ended only if the text is not
// UTF-8, and nobody else ever notices.
func FuzzInbound(f *testing.F) {
	for _, seed := range []string{
		"ping", `{"content":"hi","target":"bystander"}`, `{"content":"hi","target":"all"}`, "\xff", "",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, binary bool) {
		bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
			alice, bystander := b.open("alice"), b.open("bystander")
			if binary {
				require.NoError(t, alice.WriteBinary(text))
			} else {
				require.NoError(t, alice.Write(text))
			}
			for _, line := range bystander.got() {
				require.True(t, line == "welcome" || strings.HasPrefix(line, "alice: "), line)
			}
			require.Nil(t, bystander.ended())
			if end := alice.ended(); end != nil {
				require.Contains(t, []realtime.CloseCode{realtime.CloseText, realtime.CloseTooBig}, end.Code)
			}
		})
	})
}
