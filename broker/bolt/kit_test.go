package bolt_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// text returns a publication to a room that keeps a hundred.
func text(stream, id, content string) broker.Publication {
	p := broker.Publication{
		Stream: stream, Target: broker.Target{Rooms: []string{"lobby"}}, Keep: broker.Retention{Messages: 100},
		Message: broker.Message{Type: "chat", Sender: "alice", ID: id},
	}
	p.Message.Content, _ = json.Marshal(content)
	return p
}

func publish(t *testing.T, b *bolt.Broker, p broker.Publication) broker.Published {
	t.Helper()
	out, err := one(b.Publish(t.Context(), p))
	require.NoError(t, err)
	return out
}

func read(t *testing.T, b *bolt.Broker, stream string) broker.Page {
	t.Helper()
	page, err := b.Read(t.Context(), stream, broker.Query{Limit: 1000, Bytes: 16 << 20})
	require.NoError(t, err)
	return page
}

// contents returns the contents of the publications on a page.
func contents(page broker.Page) []string {
	var all []string
	for _, p := range page.Publications {
		var s string
		_ = json.Unmarshal(p.Message.Content, &s)
		all = append(all, s)
	}
	return all
}

// one returns the result of a single publication.
func one(out []broker.Published, err error) (broker.Published, error) {
	if err != nil {
		return broker.Published{}, err
	}
	return out[0], nil
}
