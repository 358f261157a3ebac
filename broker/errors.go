package broker

import "errors"

// Errors of a Broker.
var (
	// ErrClosed is returned by a broker after Close. Connections and Managers return the same
	// error: it is defined here so that an application finds one error for all of them.
	ErrClosed = errors.New("realtime: closed")
	// ErrUnavailable is returned by a [Bus] that cannot reach its engine.
	ErrUnavailable = errors.New("realtime: temporarily unavailable")
	// ErrInvalidPosition means that a position is not in the stream.
	ErrInvalidPosition = errors.New("realtime: no such position")
	// ErrFull means that a broker keeps as much as it may, or that an inbox keeps as much of one
	// sender as it may.
	ErrFull = errors.New("realtime: no more may be kept")
	// ErrInvalidName means that a broker cannot keep a stream or a reader with this name.
	ErrInvalidName = errors.New("realtime: invalid name")
	// ErrPublication means that stored bytes are not a publication.
	ErrPublication = errors.New("realtime: not a publication")
)
