// Package broker is the contract between a Manager and the store or network that keeps its streams
// and carries its messages between processes.
//
// Applications and clients do not import it: they choose a broker in realtime.Options. It is for
// authors of brokers, who test them with package brokertest. [github.com/realtime-go/realtime/broker/memory]
// keeps streams in the memory of one process.
package broker

import "context"

// Broker keeps streams, and carries publications between the Managers of one application. It is
// what survives a process, and what makes several processes one. Package memory has the one that
// a Manager has if it is given none.
//
// A publication with a stream is kept there: it gets the next position, and is given to each Sink
// that has subscribed to the stream, in the order of the positions. One without a stream is kept
// nowhere and given to every Sink, the publisher's own too, those of one publisher in the order of
// its Publish calls. What is not a message is not carried: announcements, rosters, counts and
// statistics are each process's own. Managers of one application must have the same Options.
//
// A broker may implement [Local] too. If that reports true, it serves one process alone: what is not kept does not go through it, and the numbers of its results are complete.
//
// All methods are safe for concurrent use, and return an error that matches ErrClosed after
// Close. The suite in brokertest holds a broker to all that is said here.
type Broker interface {
	// Open starts delivery to s, before any other method is called. New calls it in a
	// goroutine of its own, and ctx ends when the Manager closes. The second call is refused with
	// an error: then that is what the second Manager's sends return.
	Open(ctx context.Context, s Sink) error
	// Publish takes the parts of one message: it keeps those that have a stream, and delivers all.
	// It returns what became of each, in their order. When it has returned, they are as durable as
	// the broker promises, and Sinks of this process have had them. It may block until ctx ends:
	// whether they were taken is not known then. It owns parts, but may not change what they refer
	// to.
	//
	// The parts are in different streams, or it returns an error; one at most has none. They are
	// taken together: all or none, as far as an error can be known before. A broker of one process
	// delivers them in the order given, and takes no publication of another call into any of their
	// streams in between: so streams that share messages have them in one order. One that serves
	// several processes may deliver each part by itself.
	//
	// A publication with an id that its sender has used in the stream before is a duplicate: it is
	// not kept again, and nobody gets it. Ids are known for two minutes, however many come, and
	// while the publication is kept if no more than 1,000 came since. A sender is Sender and Guest
	// together.
	//
	// A part that is Shared must not push out what another sender has there and some reader has not
	// acknowledged. It is kept if its sender has no more then than was free before, in messages and
	// in bytes: one sender alone gets half of a stream, each of n gets one of n + 1 parts. Otherwise
	// that part is Full, and nobody gets it. What all readers have acknowledged and what has expired
	// does not count, unless it is behind something that does and could not go without that.
	//
	// A Sink is never given what is not yet as durable as the broker promises.
	Publish(ctx context.Context, parts ...Publication) ([]Published, error)
	// Subscribe has the publications of a stream delivered that come behind the position that it
	// returns. They may come before it has returned. A stream may be subscribed to several times;
	// each ends by one Unsubscribe.
	//
	// A stream begins with its first publication. Before, it has the offset zero and the epoch with
	// which it will begin. That epoch stays the same while the process lasts, also if nobody is
	// subscribed meanwhile, and a broker that finds again what it has kept has it after a restart
	// too: a receiver at offset zero has missed nothing. The epoch is another one only if
	// publications may have been forgotten meanwhile. Apart from that, names leave nothing behind,
	// in memory or on a disk: to subscribe, to read or to ask for a cursor keeps nothing for longer
	// than the subscription lasts. Only publications take part in the bounds of a broker; the
	// streams of rooms and of inboxes have different ones, so that those of one kind neither evict
	// nor refuse those of the other. Where a broker evicts, streams without a subscription go
	// first.
	Subscribe(ctx context.Context, stream string) (Position, error)
	Unsubscribe(ctx context.Context, stream string) error
	// Read returns a part of a stream. One that is not there has an empty page, which says where it
	// begins if it is subscribed to.
	Read(ctx context.Context, stream string, q Query) (Page, error)
	// Cursor returns how far the reader of this name has come in a stream: what is behind that has
	// not been acknowledged. A reader that is new is in front of what is kept, and known from then
	// on; the one without a name is as old as the stream, and has missed what is not kept any more.
	// Before the first publication a reader is in front of all, and known as long as the stream is
	// subscribed to. It returns the zero Position for a stream that is not there and not subscribed
	// to.
	Cursor(ctx context.Context, stream, reader string) (Position, error)
	// Ack moves a reader's cursor forward to at; it never goes back. What all readers of the stream
	// have acknowledged need not be kept any more; the broker may forget the one of more than 100
	// readers who is furthest behind. When it has returned, the move is as durable as
	// a publication. It returns ErrPosition for another epoch, and for what is ahead of the stream.
	Ack(ctx context.Context, stream, reader string, at Position) error
	// Close ends delivery: when it has returned, no Deliver is under way, unless ctx has ended.
	// Close and Shutdown of the Manager wait for it, with a ctx of ten seconds: a disk that hangs is
	// no reason for a process to stay.
	Close(ctx context.Context) error
}

// Local is implemented by a broker that serves one process alone, if it returns true.
type Local interface{ Local() bool }

// Sink is where a Broker delivers: a Manager.
type Sink interface {
	// Deliver gives p to the connections of this process. It never blocks on a
	// peer. Calls for the same stream must come one at a time, in the order of their positions; so
	// must those without a stream for the same room.
	Deliver(p Publication)
	// Lost says that publications of a stream may not be delivered that came behind the position
	// that the Sink has got last. It is given them by Read from then on, and goes on with Deliver.
	// A stream that begins anew with another epoch while it is subscribed to is lost too, before
	// anything of the new epoch is delivered.
	Lost(stream string)
}
