package bolt

import (
	"encoding/binary"
	"fmt"
	"strconv"

	bbolt "go.etcd.io/bbolt"
)

// These are the formats of the buckets' contents. The first format also kept streams that were only
// subscribed to, and had no seed. Open converts every file to the newest format.
const (
	firstFormat = 1
	format      = 2
)

var (
	keyVersion = []byte("version") // the format, in decimal
	keyHeader  = []byte("header")
	keySeed    = []byte("seed")
)

// header is the state of the store as a whole.
type header struct {
	era uint64 // part of every epoch
	// Each of these makes the next Open draw a new era.
	lossy  bool // a store with a LossWindow is open, or was not closed
	copied bool // the file was written by Backup
}

// formatEmpty creates the buckets of an empty file.
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

// label marks the file as having the newest format.
func label(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists([]byte(bucketEnded)); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put(keyVersion, strconv.AppendUint(nil, format, 10))
}

// checkFormat returns an error that matches ErrFormat for a file that this package has not written.
func checkFormat(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return fmt.Errorf("%w: no bucket of this package", ErrFormat)
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

// checkVersion returns an error that matches ErrFormat for a format that this package does not
// know.
func checkVersion(version string) error {
	has, err := strconv.ParseUint(version, 10, 64)
	switch {
	case err != nil || has < firstFormat:
		return fmt.Errorf("%w: its format is %q, not a number", ErrFormat, version)
	case has > format:
		return fmt.Errorf("%w: it has format %d; the newest that this package knows is %d",
			ErrFormat, has, format)
	}
	return nil
}

// readSeed returns the seed of epochs. It reports false if the seed is missing or damaged.
func readSeed(tx *bbolt.Tx) (seed uint64, ok bool) {
	return unsealNumber(keySeed, tx.Bucket([]byte(bucketMeta)).Get(keySeed))
}

// write writes the header to the file.
func (h header) write(tx *bbolt.Tx) error {
	value := binary.BigEndian.AppendUint64(make([]byte, sumBytes), h.era)
	value = append(value, flag(h.lossy), flag(h.copied))
	return tx.Bucket([]byte(bucketMeta)).Put(keyHeader, seal(keyHeader, value))
}

// readHeader returns the header. It reports false if the header is damaged.
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
