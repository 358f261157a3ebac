package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/realtime-go/realtime"
)

// HistoryQuery asks for a part of what a room keeps. The zero query asks for the newest messages.
type HistoryQuery struct {
	// Limit is how many messages, up to 1,000. Zero: 50. They may be fewer, as an answer has about
	// 64 KiB.
	Limit int
	// Before asks for the newest before this position, and After, in place of that, for the first
	// behind it: the Position of a [Message] for example. Zero: no bound.
	Before, After realtime.Position
}

// History is a part of what a room keeps.
type History struct {
	Messages []Message // the oldest first
	More     bool      // there is more in the direction that was asked for
	Top      realtime.Position
}

// History asks for messages that a room keeps. They are not given to [Client.Messages]. It waits
// like [Client.Join].
//
// It returns a *realtime.Error if the server refuses, with the code "no_history" if the room keeps
// nothing and "epoch" if the query is about messages that have been lost, realtime.ErrName for what
// is not a name, [ErrFull] if too much waits already, and what matches realtime.ErrClosed after the
// end.
func (c *Client) History(ctx context.Context, room string, q HistoryQuery) (History, error) {
	if err := realtime.ValidName(room); err != nil {
		return History{}, err
	}
	o := outgoing{
		Type: "history", Room: room, Limit: number(q.Limit), Before: q.Before.Offset,
		Epoch: cmp.Or(q.Before.Epoch, q.After.Epoch),
	}
	if q.After != (realtime.Position{}) {
		o.After = &q.After.Offset
	}
	content, err := c.ask(ctx, o, true, nil)
	if err != nil {
		return History{}, err
	}
	return decodeHistory(content)
}

// number is how many messages are asked for: none for less, and no more than JSON has numbers for.
func number(n int) int { return min(max(n, 0), math.MaxInt32) }

func decodeHistory(content json.RawMessage) (History, error) {
	var a struct {
		Epoch    string
		Top      uint64
		More     bool
		Messages []json.RawMessage
	}
	if err := json.Unmarshal(content, &a); err != nil {
		return History{}, fmt.Errorf("realtime: answer to history: %w", err)
	}
	h := History{More: a.More, Top: realtime.Position{Epoch: a.Epoch, Offset: a.Top}}
	for _, envelope := range a.Messages {
		if in, ok := decode(frame{data: envelope}); ok && in.isMessage() {
			in.unpack()
			h.Messages = append(h.Messages, in.message())
		}
	}
	return h, nil
}

// unpack makes binary content what it was, which has to be base64 in JSON.
func (in *incoming) unpack() {
	var content []byte
	if in.Encoding == "base64" && json.Unmarshal(in.Content, &content) == nil && content != nil {
		in.binary = content
	}
}
