package bolt

import (
	"encoding/binary"
	"fmt"

	bbolt "go.etcd.io/bbolt"
)

// version is that of what the buckets hold.
const version = "1"

var (
	keyVersion = []byte("version")
	keyHeader  = []byte("header")
)

// header is what the file says of the store as a whole.
type header struct {
	era uint64 // part of every epoch
	// What makes the next Open draw another era:
	lossy  bool // a store with a LossWindow is open, or was not closed
	copied bool // this is the file of a Backup
}

// format makes the buckets of an empty file.
func format(tx *bbolt.Tx) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucket([]byte(bucketMeta))
	if err != nil {
		return err
	}
	if err := meta.Put(keyVersion, []byte(version)); err != nil {
		return err
	}
	return header{}.write(tx)
}

// checkFormat returns an error that matches ErrFormat for what this package has not written.
func checkFormat(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return fmt.Errorf("%w: it is something else", ErrFormat)
	}
	if v := meta.Get(keyVersion); string(v) != version {
		return fmt.Errorf("%w: version %q, not %q", ErrFormat, v, version)
	}
	for _, name := range buckets() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: no %s", ErrDamaged, name)
		}
	}
	return nil
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
