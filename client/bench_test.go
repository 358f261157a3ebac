package client_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// BenchmarkSend measures a send to oneself over loopback, including the work of the server.
func BenchmarkSend(b *testing.B) {
	rt := realtime.New(&realtime.Options{
		Authenticate: realtime.InsecureQueryUser, Authorize: realtime.InsecureAllowAll, Limits: realtime.Limits{InboundRate: -1},
	})
	defer rt.Close()
	srv := httptest.NewServer(rt)
	defer srv.Close()
	c, err := client.Dial(b.Context(), srv.URL+"?user_id=alice", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	msg := realtime.Message{Content: json.RawMessage(`"hello, world"`)}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(b.Context(), realtime.ToUser("alice"), msg); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Receive(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
