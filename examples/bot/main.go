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
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := c.Join(ctx, room); err != nil {
		return err
	}
	for msg, err := range c.Messages() {
		if err != nil {
			log.Print(err) // a gap, or the last error, after which the loop ends
			continue
		}
		if text := answerTo(msg); text != "" {
			content, err := json.Marshal(map[string]string{"content": text})
			if err == nil {
				err = c.Send(ctx, realtime.ToRoom(room), realtime.Message{Content: content})
			}
			if err != nil {
				log.Print(err)
			}
		}
	}
	return realtime.ErrClosed
}

// answerTo returns the bot's answer to a message, or an empty string.
func answerTo(msg client.Message) string {
	var said struct{ Type, Content string }
	if json.Unmarshal(msg.Content, &said) != nil || msg.Sender == "bot" {
		return ""
	}
	switch {
	case msg.Type == "systemnotification" && said.Type == "room_join":
		return "Hello, " + msg.Sender + "!"
	case msg.Type == "chat" && strings.HasPrefix(said.Content, "bot,"):
		return msg.Sender + " says" + strings.TrimPrefix(said.Content, "bot,")
	default:
		return ""
	}
}
