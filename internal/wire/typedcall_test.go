package wire

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// What ContentOf encodes, Decode decodes into a value of the same type.
func TestContent(t *testing.T) {
	requireContent(t, 7, Content{JSON: json.RawMessage("7")})
	requireContent(t, []int{1, 2}, Content{JSON: json.RawMessage("[1,2]")})
	requireContent(t, struct{ A []byte }{[]byte("x")}, Content{JSON: json.RawMessage(`{"A":"eA=="}`)})
	requireContent(t, json.RawMessage(`{"a":  1}`), Content{JSON: json.RawMessage(`{"a":  1}`)})
	requireContent(t, json.RawMessage(nil), Content{})
	requireContent(t, any(nil), Content{})
	requireContent(t, any("x"), Content{JSON: json.RawMessage(`"x"`)})
	requireContent(t, any([]byte("x")), Content{Binary: []byte("x")})
	requireContent(t, []byte("\x00\xff"), Content{Binary: []byte("\x00\xff")})
	requireContent(t, []byte{}, Content{Binary: []byte{}})

	c, err := ContentOf([]byte(nil))
	require.NoError(t, err)
	require.Equal(t, Content{Binary: []byte{}}, c, "empty bytes, not no content")
	_, err = ContentOf(make(chan int))
	require.Error(t, err)
}

func requireContent[T any](t *testing.T, v T, want Content) {
	t.Helper()
	c, err := ContentOf(v)
	require.NoError(t, err)
	require.Equal(t, want, c)
	back, err := Decode[T](c)
	require.NoError(t, err)
	require.Equal(t, v, back)
}

// No content is the zero value of every type. Bytes are not JSON, and JSON is not bytes.
func TestDecodeOtherContent(t *testing.T) {
	none, err := Decode[[]byte](Content{})
	require.NoError(t, err)
	require.Nil(t, none)
	n, err := Decode[int](Content{JSON: json.RawMessage{}})
	require.NoError(t, err)
	require.Zero(t, n)

	type named []byte
	bytes, text := Content{Binary: []byte("7")}, Content{JSON: json.RawMessage(`"Nw=="`)}
	for _, decode := range []func(Content) error{
		func(c Content) error { _, err := Decode[int](c); return err },
		func(c Content) error { _, err := Decode[string](c); return err },
		func(c Content) error { _, err := Decode[json.RawMessage](c); return err },
		func(c Content) error { _, err := Decode[named](c); return err },
		func(c Content) error { _, err := Decode[*[]byte](c); return err },
		func(c Content) error { _, err := Decode[struct{}](c); return err },
	} {
		require.ErrorIs(t, decode(bytes), ErrBytes)
		require.ErrorIs(t, decode(Content{Binary: []byte{}}), ErrBytes)
	}
	_, err = Decode[[]byte](text)
	require.ErrorIs(t, err, ErrJSON)
	_, err = Decode[[]byte](Content{JSON: json.RawMessage("null")})
	require.ErrorIs(t, err, ErrJSON)
	blob, err := Decode[named](text)
	require.NoError(t, err)
	require.Equal(t, named("7"), blob, "only the type []byte is bytes")
}

// The errors of a call say what failed.
func TestTypedCallErrors(t *testing.T) {
	answer := func(c Content, err error) func(Content) (Content, error) {
		return func(Content) (Content, error) { return c, err }
	}
	_, err := TypedCall[int]("m", func() {}, answer(Content{}, nil))
	require.ErrorContains(t, err, "realtime: call of m: ")
	_, err = TypedCall[int]("m", nil, answer(Content{JSON: json.RawMessage(`"x"`)}, nil))
	require.ErrorContains(t, err, "realtime: answer to m: ")
	_, err = TypedCall[int]("m", nil, answer(Content{Binary: []byte{}}, nil))
	require.ErrorIs(t, err, ErrBytes)
	lost := errors.New("lost")
	_, err = TypedCall[int]("m", nil, answer(Content{}, lost))
	require.Equal(t, lost, err)
}
