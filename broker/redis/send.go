package redis

import (
	"context"

	"github.com/redis/rueidis"
)

// send sends data to subjects in one round trip.
func (b *Broker) send(
	ctx context.Context, data []byte, subjects []string,
) (receivers int, err error) {
	client, err := b.engine(ctx)
	if err != nil || len(subjects) == 0 {
		return 0, err
	}
	text := rueidis.BinaryString(encodeSent(b.node, data))
	commands := make(rueidis.Commands, len(subjects))
	for i, subject := range subjects {
		channel := b.names.channel(b.names.bucket(subject), subject)
		commands[i] = client.B().Spublish().Channel(channel).Message(text).Build()
	}
	for i, r := range client.DoMulti(ctx, commands...) {
		n, failed := r.AsInt64()
		if failed != nil {
			err = failed
			continue
		}
		if b.joined(subjects[i]) {
			n-- // this process
		}
		receivers += int(max(0, n))
	}
	return receivers, err
}

// joined reports whether this process gets what is sent to a subject.
func (b *Broker) joined(subject string) bool {
	bucket := b.names.bucket(subject)
	l := b.link(bucket)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.channels[b.names.channel(bucket, subject)]
	return c != nil && l.conn != nil && c.number == l.number
}
