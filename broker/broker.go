// Package broker is the contract between a Manager and the store or network that keeps its streams
// and carries its messages between processes.
//
// Applications and clients do not import it: they choose a broker in realtime.Options. It is for
// authors of brokers, who test them with package brokertest.
// [github.com/realtime-go/realtime/broker/memory] keeps streams in the memory of one process.
package broker

import "context"

// Broker keeps streams. A stream can outlive a process, and several processes can share it if the
// broker is a [Bus], too. A Manager without a Broker in its options uses the one of package memory.
//
// A publication with a stream is kept there: it gets the next position, and is delivered to each
// Sink that has subscribed to the stream, in the order of the positions. A publication without a
// stream is not kept, and is delivered to the Sink of this process. Those of one publisher are
// delivered in the order of its Publish calls. All Managers of one application must have the same
// Options.
//
// All methods are safe for concurrent use. After Close they return an error that matches ErrClosed.
// The suite in brokertest tests all of these rules.
type Broker interface {
	// Open starts delivery to s. It is called before any other method. realtime.New calls it in its
	// own goroutine, with a ctx that ends when the Manager closes. A second call returns an error,
	// which is then returned by the sends of the second Manager.
	Open(ctx context.Context, s Sink) error
	// Publish takes the parts of one message: it keeps those that have a stream, and delivers all
	// of them. It returns one result for each part, in their order. When it returns, the parts are
	// as durable as the broker promises, and the Sinks of this process have received them. It may
	// block until ctx ends; then it is unknown whether the parts were taken. Publish owns parts,
	// but must not change what they refer to.
	//
	// The parts must be in different streams, and at most one may have no stream; otherwise Publish
	// returns an error. Either all parts are taken or none, as far as an error can be known in
	// advance. A broker of one process delivers the parts in the given order, and takes no
	// publication of another call into any of their streams in between: so the messages that
	// several streams share have the same order in each. A [Bus] may take and deliver each part
	// separately.
	//
	// A publication is a duplicate if its sender has used its id in the stream before. It is
	// neither kept again nor delivered. An id is remembered for two minutes, whatever the number of
	// ids; after that, as long as its publication is kept and no more than 1,000 ids came after it.
	// A sender is Sender and Guest together.
	//
	// A Shared part must not displace publications of other senders that some reader has not
	// acknowledged. It is kept if its sender, with this part, uses no more than was free before, in
	// messages and in bytes: one sender alone gets half of a stream, and each of n senders gets one
	// of n + 1 parts. Otherwise the result of that part is Full, and it is not delivered.
	// Publications that have expired or that all readers have acknowledged do not count, unless
	// they come after one that counts and cannot be removed before it.
	//
	// A Sink never receives a publication that is not yet as durable as the broker promises.
	Publish(ctx context.Context, parts ...Publication) ([]Published, error)
	// Subscribe starts delivery of the publications of a stream that come after the position that
	// it returns. They may be delivered before it returns. A stream may be subscribed to several
	// times; each subscription ends with one Unsubscribe.
	//
	// A stream begins with its first publication. Before that, its offset is zero and its epoch is
	// the one with which it will begin. That epoch stays the same while the process runs, even if
	// there is no subscription in between. With a broker that finds its kept publications again
	// after a restart, it stays the same after the restart too: a receiver at offset zero has
	// missed nothing. The epoch changes only if publications may have been lost.
	//
	// Names leave nothing behind, in memory or on disk: subscribing, reading, or asking for a
	// cursor keeps nothing for longer than the subscription. Only publications count towards the
	// bounds of a broker. The streams of rooms and of inboxes have separate bounds, so that those
	// of one kind neither evict nor refuse those of the other. A broker that evicts begins with
	// streams without a subscription.
	Subscribe(ctx context.Context, stream string) (Position, error)
	Unsubscribe(ctx context.Context, stream string) error
	// Read returns a part of a stream. For a stream that does not exist the page is empty; if there
	// is a subscription to the stream, the page has the position at which it will begin.
	Read(ctx context.Context, stream string, q Query) (Page, error)
	// Cursor returns the position up to which the named reader has acknowledged a stream. A new
	// reader starts before all kept publications, and is tracked from then on. The reader with the
	// empty name is as old as the stream: it has missed the publications that are no longer kept.
	// Before the first publication, a reader starts before all publications, and is tracked as long
	// as there is a subscription to the stream. Cursor returns the zero Position for a stream that
	// does not exist and has no subscription.
	Cursor(ctx context.Context, stream, reader string) (Position, error)
	// Ack moves the cursor of a reader forward to at; it never moves it back. The broker need not
	// keep publications that all readers of the stream have acknowledged. If a stream has more than
	// 100 readers, the broker may forget the one with the lowest cursor. When Ack returns, the move
	// is as durable as a publication. It returns ErrInvalidPosition if at has another epoch, or is
	// after the newest publication of the stream.
	Ack(ctx context.Context, stream, reader string, at Position) error
	// Close ends delivery. When it returns, no call of Deliver is in progress, unless ctx has
	// ended. Close and Shutdown of the Manager wait for it with a ctx of ten seconds, so that a
	// disk that hangs does not keep the process running.
	Close(ctx context.Context) error
}

// Sink receives the deliveries of a Broker. It is implemented by a Manager.
type Sink interface {
	// Deliver passes p to the connections of this process. It never blocks on a peer. Calls for the
	// same stream must come one at a time, in the order of their positions; so must calls without a
	// stream for the same room.
	Deliver(p Publication)
	// Lost reports that publications of a stream after the last one that the Sink received may not
	// be delivered. From then on the Sink obtains them with Read, and continues with Deliver. A
	// stream that begins anew with another epoch while there is a subscription to it is also lost:
	// Lost is called before anything of the new epoch is delivered.
	Lost(stream string)
	// Receive passes on what another process has sent to a subject, see [Bus]. It never blocks on a
	// peer, and owns data. Calls for the same subject must come one at a time.
	Receive(subject string, data []byte)
	// Cut reports whether this process is cut off from the others, see [Bus].
	Cut(cut bool)
}
