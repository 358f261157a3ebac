package client

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStreamMergesGaps tests that gaps of the same kind without a message between them are merged.
func TestStreamMergesGaps(t *testing.T) {
	lost := errors.New("lost")
	at := func(offset uint64) position { return position{Epoch: "r1", Offset: offset} }
	s := newStream(1000)
	s.holdGap(lost)
	s.release()
	s.addGap(GapError{Reason: "expired", From: at(1), To: at(2)})
	s.addGap(GapError{Room: "lobby", Reason: "expired", From: at(1), To: at(3)})
	s.addGap(GapError{Room: "lobby", Reason: "overflow", From: at(3), To: at(9), Err: lost})
	s.enqueue(Message{}, true)
	s.addGap(GapError{Room: "lobby", Reason: "expired", From: at(10), To: at(12)})
	for _, want := range []error{
		&GapError{Err: lost},
		&GapError{Reason: "expired", From: at(1), To: at(2)},
		&GapError{Room: "lobby", Reason: "overflow", From: at(1), To: at(9), Err: lost},
		nil,
		&GapError{Room: "lobby", Reason: "expired", From: at(10), To: at(12)},
	} {
		it, _ := s.next(t.Context())
		require.Equal(t, want, it.err)
	}
}

// TestStreamByteLimit tests that the size of waiting messages is limited, whatever their number.
func TestStreamByteLimit(t *testing.T) {
	s := newStream(1000)
	large := Message{Content: make([]byte, maxStreamBytes/4)}
	for i := range 6 {
		require.Equal(t, i < 4, s.enqueue(large, false))
	}
	s.holdGap(errors.New("lost"))
	s.release()
	for range 4 {
		it, _ := s.next(t.Context())
		require.NoError(t, it.err)
	}
	it, _ := s.next(t.Context())
	require.Equal(t, &GapError{Err: errors.New("lost"), Dropped: 2}, it.err)
	require.True(t, s.enqueue(large, false), "the queue has space again")
}

// TestInboxMergesPositionUpdates tests that position frames that arrive while the application
// processes a message take constant memory.
func TestInboxMergesPositionUpdates(t *testing.T) {
	b := &inbox{requests: newRequests(&DialOptions{}), stream: newStream(1000)}
	at := func(offset uint64) position { return position{Epoch: "i1", Offset: offset} }
	cursor := at(0)
	b.begin(&cursor, nil, func() {})
	b.receive(Message{Type: "chat", Position: at(1)}, 0)
	for i := range uint64(1000) {
		b.updatePosition(positionUpdate{to: at(i + 2)})
	}
	require.Len(t, b.deliveries, 2)
	b.markProcessed(&Message{Type: "chat", Position: at(1)})
	require.Empty(t, b.deliveries)
	require.EqualValues(t, 1001, b.done)
}
