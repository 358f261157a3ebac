package broker

import "context"

// Bus is a Broker that several processes share through an engine, such as a server of Redis. A
// Manager with a Bus is a node of a cluster.
//
// A Bus also carries between processes what is not kept: bytes that one process sends to a subject
// and others listen to. Subjects are names like those of streams, of any bytes. Who listens to a
// subject with the name of a stream gets the publications of that stream by [Sink.Deliver] as well,
// but nothing fills the gaps.
//
// Open returns without waiting for the engine, and the Bus connects to it again whenever it has
// lost it. While it cannot reach the engine, all its methods fail with an error that matches
// [ErrUnavailable]. None of them blocks longer than a bound of the Bus, usually 5 s, even if ctx
// does not end. After ErrUnavailable it is unknown whether Publish has taken the parts: a caller
// that publishes them again with the same ids does not double them.
//
// What was published is delivered or reported lost within 5 s after the engine can be reached, even
// if nothing else is published to the stream. If a Bus has missed publications, it reads them and
// delivers them in order. It calls [Sink.Lost] if it cannot do so.
//
// The Bus calls [Sink.Cut] with true once it has not been able to reach the engine for some
// seconds, and with false once all subscriptions are in force again. What others have sent
// meanwhile is lost, except what is kept.
//
// RunShared in brokertest tests these rules.
type Bus interface {
	Broker
	// Listen starts delivery to [Sink.Receive] of what other processes send to a subject. After it
	// has returned, everything arrives that is sent while the engine can be reached. Listens are
	// counted; each ends with one Unlisten, also if it has returned an error: then it is in force
	// as soon as the engine can be reached.
	Listen(ctx context.Context, subject string) error
	Unlisten(ctx context.Context, subject string) error
	// Send sends data to the processes that listen to one of the subjects, but not to this one. A
	// process gets it once for each subject. What one process sends to one subject arrives in the
	// order of the calls, or not at all: there is no second attempt. Send returns how many
	// processes get it, counted for each subject, or a negative number if that is unknown. The
	// caller must not change data.
	Send(ctx context.Context, data []byte, subjects ...string) (receivers int, err error)
}
