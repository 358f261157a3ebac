package main

import (
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/realtime-go/realtime"
)

func main() {
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser, // replace: who opens this request?
		Authorize:    realtime.InsecureAllowAll,  // replace: may this client do that?
		Show:         realtime.ShowMembers,
	})
	r := chi.NewRouter()
	r.Use(middleware.Logger, middleware.Recoverer)
	r.Handle("/ws", rt)
	r.Handle("/realtime.js", rt.ClientJS())
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "index.html") })
	log.Fatal(realtime.NewServer("localhost:8080", r).ListenAndServe())
}
