// Package bolt keeps streams in one file, on bbolt: what was taken is there after the process
// has ended, was killed, or lost its power. It is a [broker.Broker] for one process.
//
//	store, err := bolt.Open("streams.db", nil)
//	rt := realtime.New(&realtime.Options{Broker: store})
//	defer rt.Close() // closes the broker too
//
// Publications of concurrent publishers share a transaction: one is committed and synced while the
// next ones gather, so that a disk with a hundred syncs in a second takes thousands of
// publications. Nobody is given a publication, and no Publish returns, before it is on the disk;
// [Options.LossWindow] trades that for speed, and its name says what for.
//
// # What survives
//
// Streams to which something was published with their positions and epochs, ids, and the cursors of
// readers. Nothing is written for what is only subscribed to. Streams have new epochs
// if the file is a copy that [Broker.Backup] made, if Options.NewEpochs asks for it, or if a
// LossWindow was set and the store was not closed: what was acknowledged may be missing then, and
// a position that was given out might come to name something else.
//
// Ages, times to live and the time for which ids are known do not depend on what becomes of the
// system's clock while the store is open. How long it was closed, that clock says; if it was set
// back meanwhile, no time has passed.
//
// # What fails
//
// When a commit fails, its publishers get the error, nobody is given what was in it, and its
// offsets are used again. The file is closed and opened anew before the next one, which works if
// the disk does. What a publisher was told had failed may be there after a crash, as after any lost
// answer: give messages ids and send them again.
//
// Every record has a checksum with its key in it. One that is damaged is never returned: it and
// what is older in its stream count as lost, with [broker.ReasonEpoch], and Options.OnDamage and
// [Stats].Damaged tell. Other streams do not suffer.
//
// bbolt's pages have none. Open checks how they hang together, which takes half a second for each
// GiB that is in memory, and as long as reading it from the disk if it is not. If a page is
// damaged, everything that can be had is written to a new file, which takes the place of the old
// one; that is left beside it, with ".damaged" behind its name. If a file that was cut off, or of
// which more is damaged, has no root any more, Open returns [ErrDamaged]. After Open the structure
// is trusted: a disk or another program that changes it under an open store may end the process.
package bolt
