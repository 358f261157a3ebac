package recipes

import (
	"io"
	"net/http"

	"github.com/realtime-go/realtime"
)

func withTicket(s sessions, mux *http.ServeMux) *realtime.Manager {
	rt := realtime.New(&realtime.Options{Authenticate: s.authenticate}) // for requests without a ticket
	mux.HandleFunc("POST /ticket", func(w http.ResponseWriter, r *http.Request) {
		id, err := s.authenticate(r) // as for any other request of the application
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		ticket, err := rt.IssueTicket(id)
		if err != nil {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, ticket)
	})
	return rt
}
