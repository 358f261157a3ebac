package client

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// What waits is bounded in bytes, whatever the number of messages.
func TestStreamIsBoundedInBytes(t *testing.T) {
	s := newStream(1000)
	large := Message{Content: make([]byte, maxStreamBytes/4)}
	for i := range 6 {
		require.Equal(t, i < 4, s.push(large, false))
	}
	s.gap(errors.New("lost"))
	s.release()
	for range 4 {
		it, _ := s.next(t.Context())
		require.NoError(t, it.err)
	}
	it, _ := s.next(t.Context())
	require.Equal(t, &GapError{Err: errors.New("lost"), Dropped: 2}, it.err)
	require.True(t, s.push(large, false), "there is room again")
}
