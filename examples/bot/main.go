// Command bot is a chat bot. It greets each user that joins its room, and echoes messages that are
// addressed to it. Run it together with examples/chat.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

func main() {
	url := flag.String("url", "ws://localhost:8080/ws?user_id=bot", "the server")
	room := flag.String("room", "general", "the room")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *url, *room, nil); !errors.Is(err, realtime.ErrClosed) {
		log.Fatal(err)
	}
}

// run chats until ctx ends or the server tells the client not to reconnect.
func run(ctx context.Context, url, room string, o *client.DialOptions) error {
	joined := make(chan string, 100) // users to greet
	opts := client.DialOptions{}
	if o != nil {
		opts = *o
	}
	opts.OnPresence = func(_ string, now client.Presence, change client.PresenceChange) {
		for _, user := range newUsers(now, change) {
			select {
			case joined <- user:
			default: // too many at once
			}
		}
	}
	c, err := client.Dial(ctx, url, &opts)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := c.JoinWith(ctx, room, client.JoinOptions{Presence: true}); err != nil {
		return err
	}
	say := func(text string) {
		content, err := json.Marshal(map[string]string{"content": text})
		if err == nil {
			err = c.Send(ctx, realtime.ToRoom(room), realtime.Message{Content: content})
		}
		if err != nil {
			log.Print(err)
		}
	}
	go func() {
		for {
			select {
			case user := <-joined:
				say("Hello, " + user + "!")
			case <-ctx.Done():
				return
			}
		}
	}()
	for msg, err := range c.Messages() {
		if err != nil {
			log.Print(err) // a gap, or the last error, after which the loop ends
			continue
		}
		if text := answerTo(msg); text != "" {
			say(text)
		}
	}
	return realtime.ErrClosed
}

// newUsers returns the users that have joined with their first device. The bot greets nobody who
// was there before.
func newUsers(now client.Presence, change client.PresenceChange) (users []string) {
	joined := map[string]int{}
	for _, m := range change.Joined {
		if m.Me {
			return nil // the bot itself has joined
		}
		joined[m.User]++
	}
	for _, u := range now.Users() {
		if u.User != "" && joined[u.User] == len(u.Members) {
			users = append(users, u.User)
		}
	}
	return users
}

// answerTo returns the bot's answer to a message, or an empty string.
func answerTo(msg client.Message) string {
	var said struct{ Content string }
	if json.Unmarshal(msg.Content, &said) != nil || msg.Sender == "bot" {
		return ""
	}
	rest, ok := strings.CutPrefix(said.Content, "bot,")
	if msg.Type != "chat" || !ok {
		return ""
	}
	return msg.Sender + " says" + rest
}
