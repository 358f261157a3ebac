package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/realtime-go/realtime"
)

// A Manager knows connections, users and rooms. Here the client is in memory; the handler of the
// Manager accepts WebSockets.
func ExampleManager() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	transport, client := realtime.Pipe()
	defer client.Drop()
	c, err := rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	if err != nil {
		panic(err)
	}
	_, _ = rt.Join(ctx, c.ID(), "lobby")
	news := realtime.Message{Type: "news", Content: json.RawMessage(`{"headline":"hi"}`)}
	_, _ = rt.Send(ctx, realtime.ToRoom("lobby"), news)

	for range 2 {
		frame, _, _ := client.Read(ctx)
		var message struct {
			Type string `json:"message_type"`
		}
		_ = json.Unmarshal(frame, &message)
		fmt.Println(message.Type)
	}
	// Output:
	// welcome
	// news
}

// Send delivers a message to each connection of the target once.
func ExampleManager_Send() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, phone := connect(rt, "alice"), connect(rt, "alice")
	bob := connect(rt, "bob")
	_, _ = rt.Join(ctx, alice.ID(), "lobby")
	_, _ = rt.Join(ctx, bob.ID(), "lobby")

	news := realtime.Message{Type: "news", Content: json.RawMessage(`{"headline":"hi"}`)}
	for _, target := range []realtime.Target{
		realtime.ToAll(),
		realtime.ToRoom("lobby"),
		realtime.ToUser("alice"),
		realtime.ToConn(phone.ID()),
		realtime.ToUser("carol"),
	} {
		res, err := rt.Send(ctx, target, news)
		fmt.Println(res.Queued, res.Offline, err)
	}
	// Output:
	// 3 0 <nil>
	// 2 0 <nil>
	// 2 0 <nil>
	// 1 0 <nil>
	// 0 1 <nil>
}

// The content of a message is any value that encoding/json can encode, or bytes.
func ExampleNewMessage() {
	type News struct{ Headline string }
	news, err := realtime.NewMessage("news", News{"hi"})
	fmt.Println(news.Type, string(news.Content), err)

	frame, _ := realtime.NewMessage("frame", []byte{1, 2, 3})
	fmt.Println(frame.Binary)
	// Output:
	// news {"Headline":"hi"} <nil>
	// [1 2 3]
}

// A room, a user and a connection send to themselves.
func ExampleRoom_Send() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, client := open(rt, "alice")
	defer client.Drop()
	_, _ = alice.Join(ctx, "lobby")

	res, err := rt.Room("lobby").Send(ctx, "news", map[string]int{"sum": 5})
	fmt.Println(res.Queued, err)
	_, _ = rt.User("alice").Send(ctx, "news", "for all your devices")
	_, _ = alice.Send(ctx, "news", "for this device")
	for range 3 {
		frame, _, _ := client.Read(ctx)
		var m struct{ Content json.RawMessage }
		_ = json.Unmarshal(frame, &m)
		fmt.Println(string(m.Content))
	}
	// Output:
	// 1 <nil>
	// {"sum":5}
	// "for all your devices"
	// "for this device"
}

// Room returns the room of a message that goes to one room only.
func ExampleTarget_Room() {
	lobby := realtime.ToRoom("lobby")
	fmt.Printf("%q\n", lobby.ExceptUser("bob").Room())
	fmt.Printf("%q\n", lobby.Union(realtime.ToUser("bob")).Room())
	// Output:
	// "lobby"
	// ""
}

// An ephemeral message is not kept, also in a room that keeps history.
func ExampleMessage_ephemeral() {
	rt := realtime.New(&realtime.Options{History: realtime.Retention{Messages: 100}})
	defer rt.Close()
	ctx := context.Background()
	_, _ = rt.Join(ctx, connect(rt, "alice").ID(), "board")

	at := realtime.Message{Type: "cursor", Content: json.RawMessage(`[3,4]`), Ephemeral: true}
	res, err := rt.Send(ctx, realtime.ToRoom("board"), at)
	fmt.Println(res.Queued, res.Kept, err)
	at.TTL = time.Minute
	_, err = rt.Send(ctx, realtime.ToRoom("board"), at)
	fmt.Println(err)
	// Output:
	// 1 0 <nil>
	// realtime: invalid message: an ephemeral message with ID, Latest or TTL
}

// A connection that is in several parts of a union receives the message once.
func ExampleTarget_Union() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, bob := connect(rt, "alice"), connect(rt, "bob")
	_, _ = rt.Join(ctx, alice.ID(), "lobby")
	_, _ = rt.Join(ctx, bob.ID(), "lobby")
	connect(rt, "alice") // alice's other device, which is not in the room

	target := realtime.ToRoom("lobby").Union(realtime.ToUser("alice"))
	res, _ := rt.Send(ctx, target, realtime.Message{})
	fmt.Println(res.Queued)
	// Output: 3
}

// A message that a client sent goes to the other members of the room.
func ExampleTarget_Except() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice, phone, bob := connect(rt, "alice"), connect(rt, "alice"), connect(rt, "bob")
	for _, c := range []*realtime.Conn{alice, phone, bob} {
		_, _ = rt.Join(ctx, c.ID(), "lobby")
	}

	lobby := realtime.ToRoom("lobby")
	for _, target := range []realtime.Target{
		lobby, lobby.Except(alice.ID()), lobby.ExceptUser("alice"),
	} {
		res, _ := rt.Send(ctx, target, realtime.Message{})
		fmt.Println(res.Queued)
	}
	// Output:
	// 3
	// 2
	// 1
}

// A room exists from its first member to its last.
func ExampleManager_Join() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	alice := connect(rt, "alice")

	for _, id := range []string{alice.ID(), alice.ID(), "conn_unknown"} {
		joined, err := rt.Join(ctx, id, "lobby")
		fmt.Println(joined, err)
	}
	fmt.Println(rt.Stats().Rooms)
	_, _ = rt.Leave(ctx, alice.ID(), "lobby")
	fmt.Println(rt.Stats().Rooms)
	// Output:
	// true <nil>
	// false <nil>
	// false realtime: connection not found
	// 1
	// 0
}

// A Room lists users. A user with two devices is listed once.
func ExampleRoom() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	for _, user := range []string{"bob", "alice", "alice"} {
		_, _ = rt.Join(ctx, connect(rt, user).ID(), "lobby")
	}

	lobby := rt.Room("lobby")
	members, _ := lobby.Users(ctx)
	count, _ := lobby.Count(ctx)
	fmt.Println(members, count.Users, count.Conns)
	// Output: [alice bob] 2 3
}

// Remove takes a user out of a room. Deny also keeps the user out.
func ExampleRoom_Remove() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	c := connect(rt, "mallory")
	_, _ = rt.Join(ctx, c.ID(), "lobby")

	n, _ := rt.Room("lobby").Remove(ctx, "mallory")
	fmt.Println(n, c.Rooms())

	_, _ = rt.Room("lobby").Deny(ctx, "mallory", time.Hour)
	_, err := rt.Join(ctx, c.ID(), "lobby")
	fmt.Println(err)
	// Output:
	// 1 []
	// realtime: denied
}

// A User has all connections of one user.
func ExampleUser() {
	rt := realtime.New(nil)
	defer rt.Close()
	laptop, phone := connect(rt, "alice"), connect(rt, "alice")

	alice := rt.User("alice")
	n, _ := alice.Count(context.Background())
	conns := slices.Collect(alice.LocalConns())
	fmt.Println(n, slices.Contains(conns, laptop), slices.Contains(conns, phone))
	// Output: 2 true true
}

// All devices of a user join a room.
func ExampleUser_Join() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	laptop, phone := connect(rt, "alice"), connect(rt, "alice")

	n, err := rt.User("alice").Join(ctx, "lobby")
	fmt.Println(n, err, laptop.In("lobby"), phone.Rooms())
	n, err = rt.User("alice").Leave(ctx, "lobby")
	fmt.Println(n, err, laptop.In("lobby"), phone.Rooms())
	// Output:
	// 2 <nil> true [lobby]
	// 2 <nil> false []
}

// The application ends connections. The close code tells the client whether to reconnect.
func ExampleUser_Disconnect() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	_, client := open(rt, "mallory")

	n, err := rt.User("mallory").Disconnect(ctx, 4500, "banned")
	fmt.Println(n, err)

	_, _, err = client.Read(ctx)
	end, _ := errors.AsType[*realtime.CloseError](err)
	fmt.Println(end.Code, end.Reason, end.Code.ComeBack())
	// Output:
	// 1 <nil>
	// 4500 banned false
}

// Deny closes the connections of a user, and refuses new ones for some time.
func ExampleUser_Deny() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	connect(rt, "mallory")

	n, _ := rt.User("mallory").Deny(ctx, time.Hour)
	fmt.Println(n, "closed")

	transport, _ := realtime.Pipe()
	_, err := rt.Register(ctx, transport, realtime.Identity{UserID: "mallory"})
	fmt.Println(err)
	// Output:
	// 1 closed
	// realtime: denied
}

// A client learns why its bid is refused, in a form for programs, and when to try again.
func ExampleError() {
	var r realtime.Router
	realtime.On(&r, "bid",
		func(_ context.Context, _ *realtime.Conn, _ realtime.Inbound, amount int) error {
			if amount <= 7 {
				return &realtime.Error{
					Code: "too_low", Message: "somebody has bid more",
					RetryAfter: time.Second, Data: json.RawMessage(`{"highest":7}`),
				}
			}
			return nil
		})
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage,
	})
	defer rt.Close()
	alice := dialV1(rt, "alice")
	reply := alice(`{"type":"send","id":1,"room":"auction","message_type":"bid","content":5}`)
	var answer struct{ Content json.RawMessage }
	_ = json.Unmarshal([]byte(reply), &answer)
	for _, member := range strings.SplitAfter(string(answer.Content), ",") {
		fmt.Println(member)
	}
	// Output:
	// {"code":"too_low",
	// "message":"somebody has bid more",
	// "retry_ms":1000,
	// "data":{"highest":7}}
}

// A room that shows its members gives them, and each change, to the clients that ask for presence.
// The application says who a member is, and the client what it does.
func ExampleOptions_show() {
	rt := realtime.New(&realtime.Options{
		Show:      realtime.ShowMembers,
		Authorize: realtime.InsecureAllowAll,
	})
	defer rt.Close()
	transport, client := realtime.Pipe(realtime.V1)
	defer client.Drop()
	ctx := context.Background()
	_, _ = rt.Register(ctx, transport, realtime.Identity{
		UserID: "alice", Info: json.RawMessage(`{"name":"Alice"}`),
	})
	_, _, _ = client.Read(ctx) // welcome
	join := `{"type":"join","id":1,"room":"lobby","presence":true,"state":{"typing":true}}`
	_ = client.Write([]byte(join))
	_, _, _ = client.Read(ctx) // the answer
	frame, _, _ := client.Read(ctx)

	var presence struct {
		Type    string `json:"message_type"`
		Show    string
		Members map[string]struct {
			User        string
			Info, State json.RawMessage
		}
	}
	_ = json.Unmarshal(frame, &presence)
	fmt.Println(presence.Type, presence.Show)
	for _, m := range presence.Members {
		fmt.Println(m.User, string(m.Info), string(m.State))
	}
	// Output:
	// presence members
	// alice {"name":"Alice"} {"typing":true}
}

// Members are connections: a user with two devices is two members.
func ExampleRoom_Members() {
	rt := realtime.New(&realtime.Options{Show: realtime.ShowMembers})
	defer rt.Close()
	ctx := context.Background()
	laptop, phone := connect(rt, "alice"), connect(rt, "alice")
	bob := connect(rt, "bob")
	for _, c := range []*realtime.Conn{laptop, phone, bob} {
		_, _ = rt.Join(ctx, c.ID(), "lobby")
	}
	_ = bob.SetInfo(map[string]string{"role": "host"})

	members, err := rt.Room("lobby").Members(ctx)
	for _, m := range members {
		fmt.Println(m.User, string(m.Info), m.Away)
	}
	fmt.Println(err)
	// Output:
	// alice  false
	// alice  false
	// bob {"role":"host"} false
	// <nil>
}

// What the application says about a connection is shown in all its rooms, and replaces what the
// identity says.
func ExampleConn_SetInfo() {
	rt := realtime.New(&realtime.Options{Show: realtime.ShowMembers})
	defer rt.Close()
	ctx := context.Background()
	alice := connect(rt, "alice")
	_, _ = rt.Join(ctx, alice.ID(), "lobby")

	for _, info := range []any{
		map[string]string{"color": "#a00"},
		json.RawMessage(`{"color":"#00a"}`),
		strings.Repeat("x", 2000),
		nil,
	} {
		err := alice.SetInfo(info)
		members, _ := rt.Room("lobby").Members(ctx)
		fmt.Printf("%q %v\n", members[0].Info, err)
	}
	// Output:
	// "{\"color\":\"#a00\"}" <nil>
	// "{\"color\":\"#00a\"}" <nil>
	// "{\"color\":\"#00a\"}" realtime: message too large: info of 2002 bytes, limit 1024
	// "" <nil>
}

// A message with Latest is the current value of its key: a client that joins later gets it too, and
// a slow client gets only the newest.
func ExampleMessage_latest() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	_, _ = rt.Join(ctx, connect(rt, "alice").ID(), "board")
	board := realtime.ToRoom("board")
	for x := range 3 {
		shape, _ := realtime.NewMessage("shape", x)
		shape.Latest = "shape/7"
		_, _ = rt.Send(ctx, board, shape)
	}
	removed := realtime.Message{Type: "shape", Latest: "shape/8"} // without content: there is none
	_, _ = rt.Send(ctx, board, removed)

	bob, client := open(rt, "bob")
	defer client.Drop()
	_, _ = rt.Join(ctx, bob.ID(), "board")
	frame, _, _ := client.Read(ctx)
	var m struct{ Content json.RawMessage }
	_ = json.Unmarshal(frame, &m)
	fmt.Println(string(m.Content))

	_, err := rt.Send(ctx, realtime.ToAll(), realtime.Message{Latest: "shape/7"})
	fmt.Println(err)
	// Output:
	// 2
	// realtime: invalid message: the target of a message with Latest is not one room or one connection
}

// Plain clients are told that users connect and join rooms.
func ExampleShow() {
	rt := realtime.New(&realtime.Options{Show: realtime.ShowMembers, AnnounceUsers: true})
	defer rt.Close()
	ctx := context.Background()
	alice, client := open(rt, "alice")
	defer client.Drop()
	_, _ = rt.Join(ctx, alice.ID(), "lobby")
	bob := connect(rt, "bob")
	_, _ = rt.Join(ctx, bob.ID(), "lobby")

	for range 3 {
		frame, _, _ := client.Read(ctx)
		var notice struct {
			Type    string `json:"message_type"`
			Content struct {
				Message string `json:"message"`
			} `json:"content"`
		}
		_ = json.Unmarshal(frame, &notice)
		fmt.Printf("%s: %s\n", notice.Type, notice.Content.Message)
	}
	// Output:
	// systemnotification: User joined room lobby
	// userjoined: User bob joined
	// systemnotification: User joined room lobby
}

// Of the positions of a player only the newest counts: a slow client loses the older ones. In other
// rooms a client that is too slow is disconnected.
func ExampleSlowPolicy() {
	rt := realtime.New(&realtime.Options{
		Limits: realtime.Limits{QueueMessages: 4},
		Room: func(name string) realtime.RoomOptions {
			if strings.HasPrefix(name, "positions:") {
				return realtime.RoomOptions{Slow: realtime.SlowDropOldest}
			}
			return realtime.RoomOptions{}
		},
	})
	defer rt.Close()
	ctx := context.Background()
	for _, room := range []string{"positions:alice", "lobby"} {
		c, client := open(rt, "bob")
		defer client.Drop()
		_, _ = rt.Join(ctx, c.ID(), room)
		for i := range 100 { // while bob does not read
			position := json.RawMessage(fmt.Sprint(i))
			_, _ = rt.Send(ctx, realtime.ToRoom(room), realtime.Message{Content: position})
		}
		for {
			frame, _, err := client.Read(ctx)
			if err != nil {
				end, _ := errors.AsType[*realtime.CloseError](err)
				fmt.Println("closed with", int(end.Code))
				break
			}
			if strings.Contains(string(frame), `"content":99`) {
				fmt.Println("the newest position arrived")
				break
			}
		}
	}
	// Output:
	// the newest position arrived
	// closed with 4300
}

// Only rooms of orders keep messages.
func ExampleRoomOptions() {
	rt := realtime.New(&realtime.Options{
		Room: func(name string) realtime.RoomOptions {
			if strings.HasPrefix(name, "orders:") {
				return realtime.RoomOptions{History: realtime.Retention{Messages: 1000}}
			}
			return realtime.RoomOptions{}
		},
	})
	defer rt.Close()
	ctx := context.Background()
	for _, room := range []string{"orders:7", "lobby"} {
		_, _ = rt.Send(ctx, realtime.ToRoom(room), realtime.Message{})
		history, err := rt.Room(room).History(ctx, realtime.HistoryQuery{})
		fmt.Println(len(history.Messages), err)
	}
	// Output:
	// 1 <nil>
	// 0 realtime: room keeps no history
}

// A client that reconnects in time resumes its session: it is in its rooms without a notice to
// others.
func ExampleTimeouts_resume() {
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll,
		Timeouts:  realtime.Timeouts{Resume: time.Minute},
	})
	defer rt.Close()
	ctx := context.Background()
	transport, client := realtime.Pipe(realtime.V1)
	_, _ = rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	frame, _, _ := client.Read(ctx)
	var welcome struct {
		Content struct{ Session string }
	}
	_ = json.Unmarshal(frame, &welcome)
	_ = client.Write([]byte(`{"type":"join","id":1,"room":"lobby"}`))
	_, _, _ = client.Read(ctx) // the reply
	client.Drop()              // the network fails

	alice := dialV1(rt, "alice")
	resume := fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, welcome.Content.Session)
	fmt.Println(alice(resume))
	// Output: {"message_type":"reply","id":1,"content":{"rooms":["lobby"]}}
}

// Pipe connects a client in memory, for tests and for clients in the same process.
func ExamplePipe() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	transport, client := realtime.Pipe()
	defer client.Drop()
	_, _ = rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	_, _, _ = client.Read(ctx) // welcome

	_ = client.Write([]byte("ping"))
	frame, _, _ := client.Read(ctx)
	fmt.Println(string(frame))
	// Output: pong
}

// A client of realtime.v1 gets a reply to each request with an id.
func ExamplePipe_v1() {
	rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll})
	defer rt.Close()
	ctx := context.Background()
	transport, client := realtime.Pipe(realtime.V1)
	defer client.Drop()
	_, _ = rt.Register(ctx, transport, realtime.Identity{UserID: "alice"})
	_, _, _ = client.Read(ctx) // welcome

	_ = client.Write([]byte(`{"type":"join","id":1,"room":"lobby"}`))
	reply, _, _ := client.Read(ctx)
	fmt.Println(string(reply))
	// Output: {"message_type":"reply","id":1}
}

// The numbers are read on request. Here package expvar serves them at /debug/vars.
func ExampleManager_Stats() {
	rt := realtime.New(nil)
	defer rt.Close()
	expvar.Publish("realtime", expvar.Func(func() any { return rt.Stats() }))

	connect(rt, "alice")
	connect(rt, "alice")
	s := rt.Stats()
	fmt.Println(s.Conns, s.Users)
	// Output: 2 1
}

// Sub returns what was counted since an earlier snapshot, for example a minute ago.
func ExampleStats_Sub() {
	rt := realtime.New(nil)
	defer rt.Close()
	ctx := context.Background()
	connect(rt, "alice")
	_, _ = rt.Send(ctx, realtime.ToAll(), realtime.Message{})

	before := rt.Stats()
	_, _ = rt.Send(ctx, realtime.ToAll(), realtime.Message{})
	now := rt.Stats()
	fmt.Println(now.Messages, now.Sub(before).Messages, now.Sub(before).Conns)
	// Output: 2 1 1
}

// connect registers a connection in memory. Its client reads and ignores all messages.
func connect(rt *realtime.Manager, user string) *realtime.Conn {
	c, client := open(rt, user)
	go func() {
		for {
			if _, _, err := client.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	return c
}

// open registers a connection in memory, and reads the welcome of its client.
func open(
	rt *realtime.Manager, user string, subprotocols ...string,
) (*realtime.Conn, *realtime.PipeClient) {
	transport, client := realtime.Pipe(subprotocols...)
	id := realtime.Identity{UserID: user}
	c, err := rt.Register(context.Background(), transport, id)
	if err != nil {
		panic(err)
	}
	_, _, _ = client.Read(context.Background())
	return c, client
}
