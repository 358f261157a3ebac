package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// keeping returns Options whose rooms keep n messages.
func keeping(n int) realtime.Options {
	return realtime.Options{History: realtime.Retention{Messages: n}}
}

// keptFrame is a frame of realtime.v1 from a room that keeps history.
type keptFrame struct {
	Type    string          `json:"message_type"`
	Content json.RawMessage `json:"content"`
	Room    string          `json:"room"`
	Offset  uint64          `json:"offset"`
	Prev    uint64          `json:"prev"`
	Epoch   string          `json:"epoch"`
	From    uint64          `json:"from"`
	To      uint64          `json:"to"`
	Reason  string          `json:"reason"`
	Lost    *bool           `json:"recovered"`
}

// streamClient follows the stream of one room as a client does, and fails if the positions are
// inconsistent.
type streamClient struct {
	t     *testing.T
	at    realtime.Position
	top   uint64
	words []string
	gaps  []string
	spans []span // the offsets of each gap
}

// span is the offsets after from, including to.
type span struct{ from, to uint64 }

func (r *streamClient) gap(to uint64, why string) {
	r.gaps = append(r.gaps, why)
	r.spans = append(r.spans, span{r.at.Offset, to})
}

// joinAnswer is the content of the answer to a join.
type joinAnswer struct {
	Epoch     string `json:"epoch"`
	Offset    uint64 `json:"offset"`
	Top       uint64 `json:"top"`
	Recovered *bool  `json:"recovered"`
	Reason    string `json:"reason"`
}

// receive processes frames.
func (r *streamClient) receive(frames []string) {
	r.t.Helper()
	for _, text := range frames {
		var f keptFrame
		text = strings.Replace(text, `"timestamp":T`, `"timestamp":0`, 1)
		require.NoError(r.t, json.Unmarshal([]byte(text), &f), "%s", text)
		switch {
		case f.Type == "welcome":
			var w struct{ Inbox joinAnswer }
			require.NoError(r.t, json.Unmarshal(f.Content, &w))
			r.at, r.top = realtime.Position{Epoch: w.Inbox.Epoch, Offset: w.Inbox.Offset}, w.Inbox.Top
		case f.Type == "reply" && len(f.Content) > 0:
			var a joinAnswer
			require.NoError(r.t, json.Unmarshal(f.Content, &a))
			if a.Recovered != nil && !*a.Recovered {
				r.gap(a.Offset, a.Reason)
			}
			r.at, r.top = realtime.Position{Epoch: a.Epoch, Offset: a.Offset}, a.Top
		case f.Type == "position":
			require.Equal(r.t, r.at.Epoch, f.Epoch, "%s", text)
			require.Greater(r.t, f.Offset, r.at.Offset, "%s", text)
			if f.Lost != nil {
				r.gap(f.Offset, f.Reason)
			}
			r.at.Offset = f.Offset
		case f.Type == "skipped":
			require.Equal(r.t, r.at.Offset, f.From, "%s", text)
			r.gap(f.To, f.Reason)
			r.at.Offset = f.To
		case f.Offset > 0:
			require.Equal(r.t, r.at, realtime.Position{Epoch: f.Epoch, Offset: f.Prev}, "a gap before %s", text)
			r.at.Offset = f.Offset
			r.words = append(r.words, strings.Trim(string(f.Content), `"`))
		}
	}
}

// takeWords returns the contents of the messages since the last call.
func (r *streamClient) takeWords() []string {
	words := r.words
	r.words = nil
	return words
}

func (b *bed) follow(user, how string) (*client, *streamClient) {
	b.t.Helper()
	c := b.openV1(realtime.Identity{UserID: user})
	c.discard()
	r := &streamClient{t: b.t}
	r.receive(c.request(`{"type":"join","id":1,"room":"hall"` + how + `}`))
	return c, r
}

func since(at realtime.Position) string {
	return fmt.Sprintf(`,"since":{"epoch":%q,"offset":%d}`, at.Epoch, at.Offset)
}

func words(from, to int) (words []string) {
	for i := from; i <= to; i++ {
		words = append(words, fmt.Sprint("m", i))
	}
	return words
}

func (b *bed) sendWords(from, to int) {
	b.t.Helper()
	for i := from; i <= to; i++ {
		res := b.news(realtime.ToRoom("hall"), fmt.Sprint("m", i))
		require.Equal(b.t, 1, res.Kept)
	}
}
