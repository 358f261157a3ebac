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

// TestStreamOfValues tests that values are replaced wherever they are in the queue, and that their
// size is limited without taking space of messages.
func TestStreamOfValues(t *testing.T) {
	s := newStream(1)
	value := func(key string, size int) {
		s.pushValue(Message{Type: "shape", Latest: key, Content: make([]byte, size)})
	}
	expect := func(key string, size int) {
		t.Helper()
		it, _ := s.next(t.Context())
		require.NoError(t, it.err)
		require.Equal(t, []any{key, size}, []any{it.msg.Latest, len(it.msg.Content)})
	}
	for round := range 3 {
		value("a", 1)
		value("b", 2)
		value("a", 3+round)
		expect("a", 3+round)
		value("b", 4)
		value("a", 5)
		require.True(t, s.enqueue(Message{Type: "chat"}, false))
		expect("b", 4)
		value("a", 6)
		expect("a", 6)
		expect("", 0)
		require.Zero(t, s.bytesOfValues+s.bytes)
		require.Empty(t, s.values)
	}
	for range 3 {
		value("a", maxStreamBytes/3)
		value("b", maxStreamBytes/3)
	}
	value("c", maxStreamBytes/3)
	value("a", maxStreamBytes/3*2)
	expect("a", maxStreamBytes/3)
	expect("b", maxStreamBytes/3)
	it, _ := s.next(t.Context())
	require.Equal(t, &GapError{Dropped: 2}, it.err)
	value("c", maxStreamBytes/2)
	value("c", 1)
	expect("c", 1)
	require.Zero(t, s.bytesOfValues)
}

// TestValueOfALostConnection tests that a value that was not written waits for the next connection.
func TestValueOfALostConnection(t *testing.T) {
	q := newRequests(&DialOptions{PendingRequests: 2, PendingBytes: 10})
	q.begin(10, nil)
	send := func(key, text string) error { return q.replace(frame{data: []byte(text)}, sentValue{key: key}) }
	require.NoError(t, send("a", "0123456"))
	require.NoError(t, send("b", "1"))
	require.ErrorIs(t, send("c", "1"), ErrFull)
	q.disconnected()
	require.NoError(t, send("a", "2"))
	q.begin(10, nil)
	for _, want := range []string{"2", "1"} {
		f, ok := q.next()
		require.True(t, ok)
		require.Equal(t, want, string(f.data))
	}
	require.NoError(t, send("a", "0123456789"))
	require.ErrorIs(t, send("b", "1"), ErrFull, "too many bytes")
	q.begin(9, nil)
	require.Empty(t, q.unsent, "too large for this connection")
	require.Empty(t, q.values)
	require.Zero(t, q.bytesOfValues)
}
