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
	unknown := false
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
		joined, sure := b.joined(subjects[i])
		if n > 0 && !sure {
			unknown = true
		}
		if joined {
			n-- // this process
		}
		receivers += int(max(0, n))
	}
	if unknown {
		receivers = -1
	}
	return receivers, err
}

// joined reports whether this process gets what is sent to a subject. It is not sure while a command
// that changes that is under way, or the connection is lost.
func (b *Broker) joined(subject string) (joined, sure bool) {
	bucket := b.names.bucket(subject)
	l := b.link(bucket)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.channels[b.names.channel(bucket, subject)]
	if c == nil {
		return false, true
	}
	joined = l.conn != nil && c.number == l.number
	return joined, joined
}
