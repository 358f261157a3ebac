package integration_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A client can choose neither the sender of its messages nor the types of the protocol.
func TestSenderCannotBeSpoofed(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory, v1, bob := b.open("mallory"), b.openV1(realtime.Identity{UserID: "mallory"}), b.open("bob")
		v1.discard()
		bob.discard()
		const lies = `"sender_id":"alice","timestamp":1,"id":"x","offset":9,`
		require.NoError(t, mallory.Write([]byte(`{`+lies+`"message_type":"userleft","content":"hi","target":"bob"}`)))
		require.Equal(t, []string{"mallory: hi"}, bob.got())
		v1.request(`{"sender_id":"alice","timestamp":1,"type":"send","user":"bob","content":"hi"}`)
		require.Equal(t, []string{`{"message_type":"chat","sender_id":"mallory","content":"hi","timestamp":946684800}`}, bob.raw())
		for _, typ := range []string{
			"welcome", "userjoined", "userleft", "ping", "pong", "reply", "error", "position", "skipped", "large",
		} {
			answer := v1.request(`{"type":"send","id":1,"user":"bob","message_type":"` + typ + `"}`)
			require.Contains(t, answer[0], "bad_request")
		}
		require.Empty(t, bob.raw())
	})
}
