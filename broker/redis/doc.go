// Package redis keeps streams in Redis and carries messages between processes: it is a
// [broker.Bus]. It needs Redis 7.0 or Valkey 7.2, or newer: one server, one with replicas and
// sentinels, or a Redis Cluster.
//
//	bus, err := redis.New(&redis.Options{Addrs: []string{"redis:6379"}})
//	rt := realtime.New(&realtime.Options{Broker: bus})
//	defer rt.Close() // closes the broker, too
//
// New and Open do not wait for a server: the Broker connects in the background, and again after
// each loss. While it cannot, calls return an error that matches [broker.ErrUnavailable], at the
// latest after Options.Timeout.
//
// # What the server must be like
//
//   - maxmemory-policy noeviction. Any other policy removes streams silently when memory is short.
//     With noeviction, Publish returns an error that matches [broker.ErrFull].
//   - Memory for what is kept: the publications, with about 100 bytes for each and 100 for each id
//     of the last two minutes, and about 500 bytes for each stream, until ForgetAfter.
//   - A user with the rights that [Options] names, no other application with the same Prefix, and
//     no way to the server for anyone else: who can write to it can send in anyone's name.
//   - tcp-keepalive 10, not its default of 300: as long as a server has not noticed that a machine
//     is gone, what is sent there counts as received, and questions wait for its answer.
//   - client-output-buffer-limit pubsub: a process that does not read for so long that the limit is
//     reached is disconnected, and then reads what it has missed.
//
// # What is lost, and when
//
// Redis answers before its data is on disk or at a replica. What it has acknowledged may be lost:
//
//	appendonly no, save ""          everything, when the server ends
//	save …                          what came after the last snapshot, when the server is killed
//	appendonly yes, everysec        about a second, when the machine loses power or Redis is killed
//	appendonly yes, always          nothing on one server; each publication waits for the disk
//	replicas, failover              what the replica did not have yet, mostly milliseconds;
//	                                min-replicas-to-write 1 bounds it
//
// Positions stay true all the same. All streams of a bucket belong to a generation, which names the
// server that took their publications by its replication id. A server has another one after each
// start and after each promotion: then the first script that runs begins a new generation, and all
// streams have new epochs. They keep what the server has kept; receivers are told that they may
// have missed something. This also happens when the first replica of a server is attached, and an
// hour after the last one was lost.
//
// Options.Durable spares receivers that for an engine that loses nothing, such as one server with
// appendfsync always whose files are never restored from a copy. Never set it for a server with
// replicas and failover.
//
// # How it works
//
// Each call runs one script (in script/), on the server of the bucket to which the name belongs.
// The work of a script is bounded: large changes are made little by little. Publish appends,
// discards and passes on in one script; up to 32 parts of a message are taken together, except in a
// Redis Cluster, where parts in different buckets are taken one after another.
//
// Offsets begin with the time in microseconds and are dense from there. So names leave nothing
// behind: a stream that begins anew, after it was forgotten, begins above its old offsets.
//
// Live publications come through sharded Pub/Sub, on connections of their own: one, or one for each
// bucket of a Redis Cluster. Pub/Sub may lose what it carries. Therefore the Broker compares the
// ends of streams after each reconnect, soon after Subscribe, and each minute, and reads what is
// missing.
package redis
