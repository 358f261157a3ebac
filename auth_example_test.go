package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// Authorize decides about each action of a client. Without it, all actions are refused.
func ExampleAuthorizer() {
	rt := realtime.New(&realtime.Options{
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionSend && a.Target.All && c.UserID() != "admin" {
				return errors.New("only the admin sends to all") // for the log
			}
			return nil
		},
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"lobby","content":"hello"}`))
	fmt.Println(alice(`{"type":"send","id":2,"all":true,"content":"hello"}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"forbidden","message":"forbidden"}}
}

// Everybody may chat in a room, and only the admin sends news. Nothing else is allowed.
func ExampleAction() {
	rt := realtime.New(&realtime.Options{
		Authorize: func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
			if a.Kind != realtime.ActionSend || a.Target.Room() == "" {
				return realtime.ErrForbidden
			}
			if a.Type == "chat" || a.Type == "news" && c.UserID() == "admin" {
				return nil
			}
			return realtime.ErrForbidden
		},
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"send","id":1,"room":"lobby","message_type":"chat","content":"hi"}`))
	fmt.Println(alice(`{"type":"send","id":2,"room":"lobby","message_type":"news","content":"hi"}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"forbidden","message":"forbidden"}}
}

// Programs send a token in a header, pages in a subprotocol. The application checks it.
func ExampleBearerToken() {
	authenticate := func(r *http.Request) (realtime.Identity, error) {
		if realtime.BearerToken(r) != "valid" { // verify a JWT, or ask a database
			return realtime.Identity{}, realtime.ErrUnauthenticated
		}
		return realtime.Identity{UserID: "alice"}, nil
	}
	rt := realtime.New(&realtime.Options{Authenticate: authenticate})
	defer rt.Close()

	program := httptest.NewRequest(http.MethodGet, "/ws", nil)
	program.Header.Set("Authorization", "Bearer valid")
	page := httptest.NewRequest(http.MethodGet, "/ws", nil)
	page.Header.Set("Sec-WebSocket-Protocol", "realtime.v1, bearer.valid")
	none := httptest.NewRequest(http.MethodGet, "/ws", nil)
	for _, r := range []*http.Request{program, page, none} {
		id, err := authenticate(r)
		fmt.Println(id.UserID, err)
	}
	// Output:
	// alice <nil>
	// alice <nil>
	//  realtime: not authenticated
}

// A page asks for a ticket, and connects with it once.
func ExampleManager_IssueTicket() {
	rt := realtime.New(&realtime.Options{
		OnConnect: func(_ context.Context, c *realtime.Conn) error {
			fmt.Println("hello,", c.UserID())
			return nil
		},
	})
	defer rt.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /ws", rt)
	mux.HandleFunc("POST /ticket", func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth() // authenticate here as for all other requests
		if !ok {
			http.Error(w, "not authenticated", http.StatusUnauthorized)
			return
		}
		ticket, err := rt.IssueTicket(realtime.Identity{UserID: user})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, ticket)
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	request, _ := http.NewRequest(http.MethodPost, server.URL+"/ticket", nil)
	request.SetBasicAuth("alice", "password")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	ticket, _ := io.ReadAll(response.Body)

	for range 2 {
		c, err := client.Dial(context.Background(), server.URL+"/ws?ticket="+string(ticket), nil)
		if err != nil {
			fmt.Println("not authenticated:", errors.Is(err, realtime.ErrUnauthenticated))
			continue
		}
		c.Close()
	}
	// Output:
	// hello, alice
	// not authenticated: true
}

// Revalidate renews an identity: with a token that a client of realtime.v1 sends, or without one
// when the identity expires.
func ExampleOptions_revalidate() {
	sessions := map[string]time.Time{"s1": time.Now().Add(time.Hour)} // in a database
	rt := realtime.New(&realtime.Options{
		Revalidate: func(_ context.Context, c *realtime.Conn, token string) (realtime.Identity, error) {
			id := c.Identity()
			if token == "" { // the session that Authenticate stored in the identity
				token, _ = id.Data.(string)
			}
			expires, ok := sessions[token]
			if !ok {
				return id, realtime.ErrUnauthenticated
			}
			id.ExpiresAt = expires
			return id, nil
		},
	})
	defer rt.Close()

	alice := dialV1(rt, "alice")
	fmt.Println(alice(`{"type":"refresh","id":1,"token":"s1"}`))
	fmt.Println(alice(`{"type":"refresh","id":2,"token":"s2"}`))
	// Output:
	// {"message_type":"reply","id":1}
	// {"message_type":"error","id":2,"content":{"code":"forbidden","message":"forbidden"}}
}
