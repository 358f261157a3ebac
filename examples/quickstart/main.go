package main

import (
	"log"
	"net/http"

	"github.com/realtime-go/realtime"
)

func main() {
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser, // replace: who opens this request?
		Authorize:    realtime.InsecureAllowAll,  // replace: may this client do that?
	})
	http.Handle("GET /ws", rt)
	log.Fatal(realtime.NewServer("localhost:8080", nil).ListenAndServe())
}
