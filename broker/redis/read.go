package redis

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/realtime-go/realtime/broker"
)

// Read returns a part of a stream.
func (b *Broker) Read(
	outer context.Context, stream string, q broker.Query,
) (broker.Page, error) {
	ctx, end, err := b.begin(outer)
	if err != nil {
		return broker.Page{}, err
	}
	defer end()
	page, err := b.read(ctx, stream, q)
	return page, b.failure(outer, err)
}

// readTail is Read for the tails, which end before Close returns.
func (b *Broker) readTail(
	outer context.Context, stream string, q broker.Query,
) (broker.Page, error) {
	ctx, cancel := context.WithTimeout(outer, b.options.Timeout)
	defer cancel()
	page, err := b.read(ctx, stream, q)
	return page, b.failure(outer, err)
}

// read reads a page. A script comes to its own limit only among publications whose time to live has
// passed; then the next one continues.
func (b *Broker) read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	q = q.Resolved()
	var page broker.Page
	for {
		r := reading{stream: stream, q: q, page: &page}
		if err := b.readOnce(ctx, &r); err != nil || r.next == 0 {
			return page, err
		}
		if q.Backwards {
			q.Before = r.next + 1
		} else {
			q.After = r.next - 1
		}
	}
}

// reading is one run of the script that reads.
type reading struct {
	stream string
	q      broker.Query
	page   *broker.Page

	generation string
	first      uint64
	next       uint64 // where the script has come to its limit, or zero
}

func (b *Broker) readOnce(ctx context.Context, r *reading) error {
	bucket, q := b.names.bucket(r.stream), r.q
	fields, err := b.run(ctx, call{
		readScript, b.names.stream(bucket, r.stream),
		[]string{
			offset(q.After), offset(q.Before), flag(q.Backwards),
			strconv.Itoa(q.Limit - len(r.page.Publications)),
			strconv.Itoa(max(1, q.Bytes-r.page.Size())),
		},
	})
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return errReply
	}
	if r.generation, err = fields[0].ToString(); err != nil {
		return errReply
	}
	if len(fields) == 1 { // the stream does not exist
		if streams, _ := b.interest.in(r.stream); streams > 0 {
			r.page.Top = broker.Position{Epoch: epoch(r.generation, r.stream)}
		}
		return nil
	}
	if len(fields) < 7 || len(fields)%3 != 1 {
		return errReply
	}
	return b.fill(r, fields[1:])
}

// offset returns an argument of a script. Numbers of scripts are exact up to 2^53.
func offset(n uint64) string { return strconv.FormatUint(min(n, 1<<53), 10) }

// fill adds to the page what the script has returned.
func (b *Broker) fill(r *reading, fields []rueidis.RedisMessage) error {
	var n [6]uint64
	for i := range n {
		if i == 3 {
			continue
		}
		v, err := fields[i].AsInt64()
		if err != nil {
			return errReply
		}
		n[i] = uint64(v)
	}
	why, err := fields[3].ToString()
	if err != nil {
		return errReply
	}
	page := r.page
	r.first, r.next = n[0], n[5]
	page.Top = broker.Position{Epoch: epoch(r.generation, r.stream), Offset: n[1]}
	page.Floor, page.Why, page.More = n[2], broker.Reason(why), n[4] == 1
	if page.Floor == 0 {
		page.Why = ""
	}
	for records := fields[6:]; len(records) > 0; records = records[3:] {
		at, err := r.placeOf(records)
		if err != nil {
			return err
		}
		text, err := records[2].ToString()
		if err != nil {
			return errReply
		}
		k, err := decodeRecord(text)
		var p broker.Publication
		if err == nil {
			p, err = b.publication(k, r.stream, r.generation, at)
		}
		if err != nil {
			b.unreadable(r.stream, err)
			page.Floor, page.Why = max(page.Floor, at.offset), broker.ReasonEpoch
			if r.q.Backwards {
				page.More, r.next = false, 0
				return nil
			}
			page.Publications = page.Publications[:0]
			continue
		}
		page.Publications = append(page.Publications, p)
	}
	return nil
}

func (r *reading) placeOf(fields []rueidis.RedisMessage) (place, error) {
	o, err := fields[0].AsInt64()
	at, failed := fields[1].AsInt64()
	if errors.Join(err, failed) != nil {
		return place{}, errReply
	}
	p := place{offset: uint64(o), at: at}
	if p.offset > r.first {
		p.prev = p.offset - 1
	}
	return p, nil
}

// unreadable notes something that this version cannot read.
func (b *Broker) unreadable(name string, err error) {
	b.log.Log(b.ctx, slog.LevelError, "", "redis: something cannot be read",
		slog.String("name", name), slog.Any("error", err))
}

// ends returns the ends of streams of one bucket.
func (b *Broker) ends(
	ctx context.Context, bucket int, streams []string,
) ([]broker.Position, error) {
	keys := append(make([]string, 0, 1+len(streams)), b.names.generation(bucket))
	for _, stream := range streams {
		keys = append(keys, b.names.head(bucket, stream))
	}
	fields, err := b.run(ctx, call{endsScript, keys, nil})
	if err != nil {
		return nil, err
	}
	if len(fields) != len(keys) {
		return nil, errReply
	}
	generation, err := fields[0].ToString()
	if err != nil {
		return nil, errReply
	}
	ends := make([]broker.Position, len(streams))
	for i, stream := range streams {
		top, err := fields[i+1].AsInt64()
		if err != nil {
			return nil, errReply
		}
		ends[i] = broker.Position{Epoch: epoch(generation, stream), Offset: uint64(top)}
	}
	return ends, nil
}
