package realtime

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"time"
)

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
