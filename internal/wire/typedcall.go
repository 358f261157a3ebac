package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Content is the content of a call or of its answer: JSON, bytes, or none.
type Content struct {
	JSON   json.RawMessage // empty: none
	Binary []byte          // in place of JSON, may be empty; nil: none
}

// ContentOf returns the content that stands for a value of the application. Nil is none, a []byte
// is bytes, also if it is nil, a json.RawMessage is JSON, and any other value is encoded by
// encoding/json. The content refers to a []byte and to a json.RawMessage.
func ContentOf(v any) (c Content, err error) {
	switch v := v.(type) {
	case nil:
	case []byte:
		if c.Binary = v; v == nil {
			c.Binary = []byte{}
		}
	case json.RawMessage:
		c.JSON = v
	default:
		c.JSON, err = json.Marshal(v)
	}
	return c, err
}

// The errors of Decode, beside those of encoding/json.
var (
	ErrBytes = errors.New("bytes in place of JSON")
	ErrJSON  = errors.New("JSON in place of bytes")
)

// Decode decodes content as ContentOf encodes it. No content is the zero T. Bytes are for a []byte
// or an any, and nothing else is for a []byte.
func Decode[T any](c Content) (v T, err error) {
	to := any(&v)
	if c.Binary != nil {
		switch to := to.(type) {
		case *[]byte:
			*to = c.Binary
		case *any:
			*to = c.Binary
		default:
			err = ErrBytes
		}
		return v, err
	}
	if len(c.JSON) == 0 {
		return v, nil
	}
	if _, ok := to.(*[]byte); ok {
		return v, ErrJSON
	}
	err = json.Unmarshal(c.JSON, to)
	return v, err
}

// TypedCall makes a call with what ContentOf makes of req, and decodes the answer into a Res.
func TypedCall[Res any](
	method string, req any, call func(content Content) (Content, error),
) (res Res, err error) {
	content, err := ContentOf(req)
	if err != nil {
		return res, fmt.Errorf("realtime: call of %s: %w", method, err)
	}
	if content, err = call(content); err != nil {
		return res, err
	}
	if res, err = Decode[Res](content); err != nil {
		err = fmt.Errorf("realtime: answer to %s: %w", method, err)
	}
	return res, err
}
