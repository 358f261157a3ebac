package redis

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/realtime-go/realtime/broker"
)

// names makes the names of keys and channels. The name in braces is the hash tag of the bucket:
// everything with the same tag is on the same server of a Redis Cluster.
type names struct {
	buckets []string // the beginnings of all names of a bucket
}

func newNames(prefix string, buckets int) names {
	var n names
	for i := range buckets {
		n.buckets = append(n.buckets, prefix+":{"+prefix+"."+strconv.Itoa(i)+"}:")
	}
	return n
}

// bucket returns the bucket of a stream or a subject.
func (n names) bucket(name string) int {
	sum := sha256.Sum256([]byte(name))
	return int(binary.BigEndian.Uint32(sum[:]) % uint32(len(n.buckets)))
}

// generation returns the key of the generation of a bucket.
func (n names) generation(bucket int) string { return n.buckets[bucket] + "g" }

// head returns the key of the head of a stream.
func (n names) head(bucket int, stream string) string { return n.buckets[bucket] + "h:" + stream }

// stream returns the keys that a script needs for a stream, in its order.
func (n names) stream(bucket int, stream string) []string {
	keys := []string{n.generation(bucket)}
	for _, kind := range []string{"h:", "l:", "m:", "i:", "o:", "c:", "u:"} {
		keys = append(keys, n.buckets[bucket]+kind+stream)
	}
	return keys
}

// channel returns the channel of a stream or a subject.
func (n names) channel(bucket int, name string) string { return n.buckets[bucket] + "s:" + name }

// idle returns a channel of a bucket to which nobody sends.
func (n names) idle(bucket int) string { return n.buckets[bucket] + "s" }

// name returns the stream or subject of a channel of a bucket.
func (n names) name(bucket int, channel string) (string, bool) {
	return strings.CutPrefix(channel, n.buckets[bucket]+"s:")
}

// newGeneration returns a name that no generation has had.
func newGeneration() string { return rand.Text()[:16] }

// epoch returns the epoch of a stream in a generation of its bucket.
func epoch(generation, stream string) string {
	sum := sha256.Sum256([]byte(stream))
	return generation + "." + hex.EncodeToString(sum[4:10])
}

// generationOf returns the generation that an epoch of the stream belongs to. It reports false if
// the epoch is not one of this stream.
func generationOf(e, stream string) (string, bool) {
	generation, _, ok := strings.Cut(e, ".")
	return generation, ok && epoch(generation, stream) == e
}

// messageID returns what the ids of a stream are kept as: all have the same length. It is empty if
// the message has no id.
func messageID(m *broker.Message) string {
	if m.ID == "" {
		return ""
	}
	return digest(m.Sender, m.Guest, m.ID)
}

// senderName returns what the usage of a sender is kept as.
func senderName(m *broker.Message) string { return digest(m.Sender, m.Guest) }

func digest(words ...string) string {
	var buf []byte
	for _, w := range words {
		buf = append(binary.AppendUvarint(buf, uint64(len(w))), w...)
	}
	sum := sha256.Sum256(buf)
	return string(sum[:16])
}
