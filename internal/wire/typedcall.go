package wire

import (
	"encoding/json"
	"fmt"
)

// TypedCall makes a call with JSON that encoding/json makes of req, and decodes the answer into a
// Res. A nil req is no content, and an empty answer is the zero Res.
func TypedCall[Res any](
	method string, req any, call func(content json.RawMessage) (json.RawMessage, error),
) (res Res, err error) {
	var content json.RawMessage
	if req != nil {
		if content, err = json.Marshal(req); err != nil {
			return res, fmt.Errorf("realtime: call of %s: %w", method, err)
		}
	}
	content, err = call(content)
	if err != nil || content == nil {
		return res, err
	}
	if err = json.Unmarshal(content, &res); err != nil {
		err = fmt.Errorf("realtime: answer to %s: %w", method, err)
	}
	return res, err
}
