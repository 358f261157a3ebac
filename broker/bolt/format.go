package bolt

import (
	"encoding/binary"
	"fmt"
	"strconv"

	bbolt "go.etcd.io/bbolt"
)

// The formats of what the buckets hold. In the first one streams that were only subscribed to were
// kept, and there was no seed. A file of any of them is made one of the newest when it is opened.
const (
	firstFormat = 1
	format      = 2
)

var (
	keyVersion = []byte("version") // the format, in decimal
	keyHeader  = []byte("header")
	keySeed    = []byte("seed")
)

// header is what the file says of the store as a whole.
type header struct {
	era uint64 // part of every epoch
	// What makes the next Open draw another era:
	lossy  bool // a store with a LossWindow is open, or was not closed
	copied bool // this is the file of a Backup
}

// formatEmpty makes the buckets of an empty file.
func formatEmpty(tx *bbolt.Tx) error {
	for _, name := range append(ofStreams(), bucketMeta) {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	if err := label(tx); err != nil {
		return err
	}
	return header{}.write(tx)
}

// label says that the file has the newest format.
func label(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists([]byte(bucketEnded)); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put(keyVersion, strconv.AppendUint(nil, format, 10))
}

// checkFormat returns an error that matches ErrFormat for what this package has not written.
func checkFormat(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return fmt.Errorf("%w: it is something else", ErrFormat)
	}
	if err := checkVersion(string(meta.Get(keyVersion))); err != nil {
		return err
	}
	for _, name := range ofStreams() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: no %s", ErrDamaged, name)
		}
	}
	return nil
}

// checkVersion returns an error that matches ErrFormat for a format that this package does not know.
func checkVersion(version string) error {
	has, err := strconv.ParseUint(version, 10, 64)
	switch {
	case err != nil || has < firstFormat:
		return fmt.Errorf("%w: it has no format, but %q", ErrFormat, version)
	case has > format:
		return fmt.Errorf("%w: it has format %d, and %d is the newest one that this package knows",
			ErrFormat, has, format)
	}
	return nil
}

// readSeed returns the seed of epochs, or reports false if there is none, or it is damaged.
func readSeed(tx *bbolt.Tx) (seed uint64, ok bool) {
	return unsealNumber(keySeed, tx.Bucket([]byte(bucketMeta)).Get(keySeed))
}

// write puts the header into the file.
func (h header) write(tx *bbolt.Tx) error {
	value := binary.BigEndian.AppendUint64(make([]byte, sumBytes), h.era)
	value = append(value, flag(h.lossy), flag(h.copied))
	return tx.Bucket([]byte(bucketMeta)).Put(keyHeader, seal(keyHeader, value))
}

// readHeader reports false if the header is damaged.
func readHeader(tx *bbolt.Tx) (header, bool) {
	p, ok := unseal(keyHeader, tx.Bucket([]byte(bucketMeta)).Get(keyHeader))
	if !ok || len(p) != 10 {
		return header{}, false
	}
	return header{era: binary.BigEndian.Uint64(p), lossy: p[8] != 0, copied: p[9] != 0}, true
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
