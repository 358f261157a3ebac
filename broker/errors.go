package broker

import "errors"

// Errors of a Broker.
var (
	// ErrClosed says that the broker has been closed. Its text is the one that connections and
	// Managers have, because an application finds it there.
	ErrClosed = errors.New("realtime: closed")
	// ErrPosition says that a position is not one of the stream.
	ErrPosition = errors.New("realtime: no such position")
	// ErrFull says that the broker keeps as much as it may, or that an inbox keeps as much of one
	// sender as it may.
	ErrFull = errors.New("realtime: no more may be kept")
	// ErrName says that the broker cannot keep a stream or a reader of this name.
	ErrName = errors.New("realtime: invalid name")
	// ErrPublication says that stored bytes are not a publication.
	ErrPublication = errors.New("realtime: not a publication")
)
