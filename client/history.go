package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// HistoryQuery asks for a page of the messages that a room keeps. The zero query asks for the
// newest messages.
type HistoryQuery struct {
	// Limit is the largest number of messages, up to 1,000. Zero means 50. The answer may have
	// fewer, because its size is limited to about 64 KiB.
	Limit int
	// Before asks for the newest messages before this position, for example that of a [Message].
	// After asks for the first messages after it; it is an alternative to Before. Zero sets no
	// bound.
	Before, After realtime.Position
}

// History is a page of the messages that a room keeps.
type History struct {
	Messages []Message // oldest first
	More     bool      // there are more messages in the direction of the query
	Top      realtime.Position
}

// History returns messages that a room keeps. [Client.Messages] does not yield them. History waits
// like [Client.Join].
//
// It returns a *realtime.Error if the server refuses, with the code "no_history" if the room keeps
// nothing, and "epoch" if the query refers to messages that have been lost. It returns
// realtime.ErrInvalidName if room is not a name, [ErrFull] if too many requests are pending, and an
// error that matches realtime.ErrClosed after the client has ended.
func (c *Client) History(ctx context.Context, room string, q HistoryQuery) (History, error) {
	if err := realtime.ValidName(room); err != nil {
		return History{}, err
	}
	o := outgoing{
		Type: wire.RequestHistory, Room: room, Limit: clampCount(q.Limit), Before: q.Before.Offset,
		Epoch: cmp.Or(q.Before.Epoch, q.After.Epoch),
	}
	if q.After != (realtime.Position{}) {
		o.After = &q.After.Offset
	}
	content, err := c.request(ctx, o, true, nil)
	if err != nil {
		return History{}, err
	}
	return decodeHistory(content)
}

// clampCount limits the number of messages in a request to what the protocol accepts.
func clampCount(n int) int { return min(max(n, 0), math.MaxInt32) }

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
			in.decodeBase64()
			h.Messages = append(h.Messages, in.message())
		}
	}
	return h, nil
}

// decodeBase64 decodes binary content, which JSON carries as base64.
func (in *incoming) decodeBase64() {
	var content []byte
	if in.Encoding != wire.EncodingBase64 {
		return
	}
	if json.Unmarshal(in.Content, &content) == nil && content != nil {
		in.binary = content
	}
}
