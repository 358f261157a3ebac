// Package bolt keeps streams in one file, on bbolt: publications that were taken survive the end of
// the process, whether it exits, is killed, or loses power. It is a [broker.Broker] for one
// process.
//
//	store, err := bolt.Open("streams.db", nil)
//	rt := realtime.New(&realtime.Options{Broker: store})
//	defer rt.Close() // closes the broker too
//
// Publications of concurrent publishers share a transaction: one is committed and synced while the
// next ones gather, so that a disk with a hundred syncs in a second takes thousands of
// publications. No publication is delivered, and no Publish returns, before the publication is on
// disk. [Options.LossWindow] gives this up for speed; its name says what it costs.
//
// # Durability
//
// The file keeps streams that have had a publication, with their positions and epochs, and the ids
// and the cursors of readers. Nothing is written for a stream that is only subscribed to. All
// streams get new epochs if the file is a copy that [Broker.Backup] made, if Options.NewEpochs asks
// for it, or if LossWindow was set and the store was not closed: in these cases acknowledged
// publications may be missing, and with its old epoch a position could denote another publication.
//
// Ages, times to live and the time for which ids are remembered do not depend on changes of the
// system's clock while the store is open. The time for which the store was closed is taken from
// that clock; if it was set back in between, no time has passed.
//
// # Failures
//
// If a commit fails, its publishers get the error, none of its publications are delivered, and its
// offsets are used again. Before the next commit the file is closed and opened again, which
// succeeds if the disk works again. After a crash, a publication that was reported as failed may
// exist nevertheless, as after any lost answer: give messages ids and send them again.
//
// Every record has a checksum that includes its key. A damaged record is never returned: it and all
// older ones of its stream count as lost, with [broker.ReasonEpoch], and Options.OnDamage and
// [Stats].Damaged report it. Other streams are not affected.
//
// The pages of bbolt have no checksums. Open checks their structure. This takes half a second for
// each GiB in memory; for a file that is not in memory it takes as long as reading it from disk. If
// a page is damaged, everything that can be recovered is written to a new file, which replaces the
// old one. The old file is kept with ".damaged" appended to its name. If the file was cut off, or
// so much of it is damaged that it has no root, Open returns [ErrDamaged]. After Open the structure
// is trusted: a disk or another program that changes it in an open store may end the process.
package bolt
