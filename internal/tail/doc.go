// Package tail delivers the publications of subscribed streams in their order and without gaps,
// from an engine that may lose, repeat and delay what it passes on to its subscribers.
//
// A broker gives each publication that arrives to [Tails.Arrived]. One that follows the last one is
// delivered. If publications are missing in between, those that have arrived wait, and after a
// moment the missing ones are read. If nothing follows, a gap cannot be seen: therefore the broker
// compares the ends of the streams now and then and calls [Tails.Compare].
package tail
