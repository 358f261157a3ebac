package modeltest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/realtime-go/realtime"
)

// These are the frames of docs/PROTOCOL.md, byte by byte. They share no code with the library, so
// that an error there cannot hide itself.

const pongFrame = "pong"

func welcomeFrame(id string) string {
	return envelope("welcome", "", fmt.Sprintf(
		`{"connection_id":%s,"message":"Connected successfully"}`, quote(id)))
}

func userJoinedFrame(user string) string {
	return envelope("userjoined", user, fmt.Sprintf(
		`{"user_id":%s,"message":%s}`, quote(user), quote("User "+user+" joined")))
}

func userLeftFrame(user string) string {
	return envelope("userleft", user, fmt.Sprintf(
		`{"user_id":%s,"message":%s}`, quote(user), quote("User "+user+" left")))
}

func roomJoinFrame(user, room string) string {
	return envelope("systemnotification", user, fmt.Sprintf(
		`{"type":"room_join","user_id":%s,"room_id":%s,"message":%s}`,
		orNull(user), quote(room), quote("User joined room "+room)))
}

func roomLeaveFrame(user, room string) string {
	return envelope("systemnotification", user, fmt.Sprintf(
		`{"type":"room_leave","user_id":%s,"room_id":%s,"message":%s}`,
		orNull(user), quote(room), quote("User left room "+room)))
}

func chatFrame(user, text string) string {
	return envelope("chat", user, fmt.Sprintf(
		`{"type":"chat_message","sender_id":%s,"content":%s,"timestamp":%d}`,
		orNull(user), quote(text), time.Now().Unix()))
}

func envelope(typ, sender, content string) string {
	return envelopeAt(typ, sender, content, time.Now())
}

func envelopeAt(typ, sender, content string, at time.Time) string {
	return fmt.Sprintf(`{"message_type":%s,"sender_id":%s,"content":%s,"timestamp":%d}`,
		quote(typ), orNull(sender), content, at.Unix())
}

func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // strings can always be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return quote(s)
}

// The bodies of the REST interface.

const notFound = `{"error":"Connection not found"}`

func usersBody(room string, users []string) string {
	names, err := json.Marshal(users)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"room_id":%s,"users":%s,"user_count":%d}`, quote(room), names, len(users))
}

func statsBody(s realtime.Stats) string {
	updated := "null"
	if !s.Updated.IsZero() {
		updated = quote(s.Updated.UTC().Format(time.RFC3339Nano))
	}
	return fmt.Sprintf(`{"total_connections":%d,"active_connections":%d,"peak_connections":%d,`+
		`"total_messages":%d,"messages_per_second":%v,"last_stats_update":%s}`,
		s.Accepted, s.Conns, s.PeakConns, s.Messages, s.Rate, updated)
}
