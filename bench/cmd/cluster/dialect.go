package main

import (
	"encoding/json"
	"fmt"
)

// position is a place in the history of a room.
type position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// dialect is the protocol of a server.
type dialect struct {
	path    string // before the user
	hello   string // the first request, with the id 1; empty: none
	ping    string // of the server, and its answer
	join    func(id int, room string, since *position, watch bool) string
	leave   func(id int, room string) string
	publish func(id int, room, text string) string
	// answer returns the id that a frame answers, or zero, and the position in it.
	answer func(frame []byte) (id int, at position, err error)
}

// mark is in each text that is published, and nowhere else.
const mark = "~"

var dialects = map[string]*dialect{
	"realtime.v1": {
		path: "/ws?protocol=realtime.v1&user=",
		join: func(id int, room string, since *position, watch bool) string {
			request := fmt.Sprintf(`{"type":"join","id":%d,"room":"%s"`, id, room)
			if since != nil {
				at, _ := json.Marshal(since)
				request += `,"since":` + string(at)
			}
			if watch {
				request += `,"presence":true`
			}
			return request + "}"
		},
		leave: func(id int, room string) string {
			return fmt.Sprintf(`{"type":"leave","id":%d,"room":"%s"}`, id, room)
		},
		publish: func(id int, room, text string) string {
			return fmt.Sprintf(`{"type":"send","id":%d,"room":"%s","content":"%s"}`, id, room, text)
		},
		answer: func(frame []byte) (int, position, error) {
			var f struct {
				Type    string `json:"message_type"`
				ID      int    `json:"id"`
				Content struct {
					position
					Recovered *bool  `json:"recovered"`
					Message   string `json:"message"`
				} `json:"content"`
			}
			if json.Unmarshal(frame, &f) != nil || f.Type != "reply" && f.Type != "error" {
				return 0, position{}, nil
			}
			if f.Type == "error" || f.Content.Recovered != nil && !*f.Content.Recovered {
				return 0, position{}, fmt.Errorf("refused: %s", frame)
			}
			return f.ID, f.Content.position, nil
		},
	},
	"centrifuge": {
		path: "/ws?user=", hello: `{"id":1,"connect":{}}`, ping: "{}",
		join: func(id int, room string, since *position, watch bool) string {
			request := fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"%s"`, id, room)
			if since != nil {
				request += fmt.Sprintf(`,"recover":true,"epoch":"%s","offset":%d`, since.Epoch, since.Offset)
			}
			if watch {
				request += `,"join_leave":true`
			}
			return request + "}}"
		},
		leave: func(id int, room string) string {
			return fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":"%s"}}`, id, room)
		},
		publish: func(id int, room, text string) string {
			return fmt.Sprintf(`{"id":%d,"publish":{"channel":"%s","data":"%s"}}`, id, room, text)
		},
		answer: func(frame []byte) (int, position, error) {
			var f struct {
				ID        int             `json:"id"`
				Error     json.RawMessage `json:"error"`
				Subscribe *struct {
					position
					Recovered     bool `json:"recovered"`
					WasRecovering bool `json:"was_recovering"`
				} `json:"subscribe"`
			}
			if json.Unmarshal(frame, &f) != nil || f.ID == 0 {
				return 0, position{}, nil
			}
			if f.Error != nil || f.Subscribe != nil && f.Subscribe.WasRecovering && !f.Subscribe.Recovered {
				return 0, position{}, fmt.Errorf("refused: %s", frame)
			}
			if f.Subscribe == nil {
				return f.ID, position{}, nil
			}
			return f.ID, f.Subscribe.position, nil
		},
	},
}
