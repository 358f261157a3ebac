package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/realtime-go/realtime/broker"
)

// maxParts is how many parts one script takes.
const maxParts = 32

// part is a part of a message that has a stream.
type part struct {
	*broker.Publication
	index   int // among all parts
	bucket  int
	call    uint64
	record  []byte
	readers []string // that have come before the first publication

	out  broker.Published
	took *place // set if it was taken
	gen  string
}

// The states of a part, as the script returns them.
const (
	taken = iota
	duplicate
	full
)

// Publish takes the parts of a message. Without a Redis Cluster it takes up to 32 of them at once.
func (b *Broker) Publish(
	outer context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	ctx, end, err := b.begin(outer)
	kept := 0
	for i := range parts {
		if parts[i].Stream != "" {
			kept++
		}
	}
	if kept == 0 && err != nil && b.cut.err() != nil && outer.Err() == nil && b.gate.enter() {
		err, end = nil, b.gate.leave // this needs no engine
	}
	if err != nil {
		return nil, err
	}
	defer end()
	tasks, err := b.tasks(parts)
	if err != nil {
		b.recover(tasks)
		return nil, err
	}
	if err = b.take(ctx, tasks); err != nil {
		b.recover(tasks)
		return nil, b.failure(outer, err)
	}
	out := make([]broker.Published, len(parts))
	for i, next := 0, 0; i < len(parts); i++ {
		if parts[i].Stream == "" {
			b.sink.Deliver(parts[i])
			continue
		}
		t := tasks[next]
		next++
		out[i] = t.out
		b.deliver(ctx, t)
	}
	return out, nil
}

// tasks prepares the parts that have a stream. Each has a flight, also if there is an error.
func (b *Broker) tasks(parts []broker.Publication) (tasks []*part, err error) {
	seen := make(map[string]bool, len(parts))
	for i := range parts {
		p := &parts[i]
		if seen[p.Stream] {
			return tasks, fmt.Errorf("redis: two parts of a message in stream %q", p.Stream)
		}
		if seen[p.Stream] = true; p.Stream == "" {
			continue
		}
		t := &part{Publication: p, index: i, bucket: b.names.bucket(p.Stream)}
		t.call = b.flights.begin(t.Origin)
		t.readers = b.interest.tracked(p.Stream)
		tasks = append(tasks, t)
		if t.record, err = encodeRecord(p, b.node, t.call); err != nil {
			return tasks, err
		}
	}
	return tasks, nil
}

// take lets the engine take the parts.
func (b *Broker) take(ctx context.Context, tasks []*part) error {
	if len(tasks) == 0 {
		return nil
	}
	groups := b.groups(tasks)
	calls := make([]call, len(groups))
	for i, g := range groups {
		calls[i] = b.publishCall(g)
	}
	results, err := b.runAll(ctx, calls...)
	if err != nil {
		return err
	}
	for i, g := range groups {
		if failed := b.results(g, results[i]); err == nil {
			err = failed
		}
	}
	return err
}

// groups returns the parts that one script takes.
func (b *Broker) groups(tasks []*part) (groups [][]*part) {
	var order []int
	byBucket := map[int][]*part{}
	for _, t := range tasks {
		bucket := 0
		if b.options.Cluster {
			bucket = t.bucket
		}
		if len(byBucket[bucket]) == 0 {
			order = append(order, bucket)
		}
		byBucket[bucket] = append(byBucket[bucket], t)
	}
	for _, bucket := range order {
		groups = slices.AppendSeq(groups, slices.Chunk(byBucket[bucket], maxParts))
	}
	return groups
}

func (b *Broker) publishCall(tasks []*part) call {
	c := call{script: publishScript}
	for _, t := range tasks {
		c.keys = append(c.keys, b.names.stream(t.bucket, t.Stream)...)
		_, inbox := broker.StreamUser(t.Stream)
		c.args = append(c.args,
			b.names.channel(t.bucket, t.Stream), rueidis.BinaryString(t.record), strconv.Itoa(t.Size()),
			messageID(&t.Message), strconv.Itoa(max(0, t.Keep.Messages)), micros(t.Keep.Age),
			strconv.Itoa(max(0, t.Keep.Bytes)), micros(t.Message.TTL),
			flag(inbox), flag(t.Shared), senderName(&t.Message), strconv.Itoa(len(t.readers)))
		c.args = append(c.args, t.readers...)
	}
	return c
}

// flag returns an argument of a script.
func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// longest is what a script can add to the time without loss: a century.
const longest = 100 * 365 * 24 * time.Hour

// micros returns a duration in microseconds, rounded up. Zero means without bound.
func micros(d time.Duration) string {
	if d <= 0 || d > longest {
		return "0"
	}
	return strconv.FormatInt(int64((d+time.Microsecond-1)/time.Microsecond), 10)
}

// results sets the results of parts.
func (b *Broker) results(tasks []*part, r rueidis.RedisResult) error {
	all, err := r.ToArray()
	if err != nil {
		return err
	}
	if len(all) != len(tasks) {
		return errReply
	}
	for i, t := range tasks {
		fields, err := all[i].ToArray()
		if err != nil || len(fields) != 5 {
			return errReply
		}
		var n [5]int64
		for f := range fields {
			if f == 1 {
				t.gen, err = fields[f].ToString()
			} else {
				n[f], err = fields[f].AsInt64()
			}
			if err != nil {
				return errReply
			}
		}
		switch n[0] {
		case full:
			t.out.Full = true
			continue
		case taken:
			t.took = &place{uint64(n[2]), uint64(n[3]), n[4]}
		}
		t.out.Position = broker.Position{Epoch: epoch(t.gen, t.Stream), Offset: uint64(n[2])}
		t.out.Duplicate = n[0] == duplicate
	}
	return nil
}

// deliver delivers a part that was taken, and waits until it is delivered.
func (b *Broker) deliver(ctx context.Context, t *part) {
	defer b.flights.end(t.call)
	if len(t.readers) > 0 && t.took != nil {
		b.interest.forget(t.Stream, t.readers...)
	}
	if t.took == nil {
		return
	}
	p := *t.Publication
	t.took.set(&p, t.Stream, t.gen)
	if b.tails.Arrived(p) {
		b.tails.Await(ctx, p.Stream, p.Position)
	}
}

// recover delivers the parts that are known to be taken although Publish has failed.
func (b *Broker) recover(tasks []*part) {
	for _, t := range tasks {
		if e := b.flights.end(t.call); t.took == nil && e != nil {
			t.took, t.gen = &e.place, e.generation
		}
		if t.took == nil {
			continue
		}
		p := *t.Publication
		t.took.set(&p, t.Stream, t.gen)
		b.tails.Arrived(p)
	}
}
