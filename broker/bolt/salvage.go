package bolt

import (
	"errors"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"
)

// salvage copies what can be had of a file whose structure is damaged to another one. Good pages of
// a bucket are copied as they are. Of a damaged page, and of the pages that only a damaged one led
// to, what has a right checksum is copied: they are those that are neither free nor in a tree.
type salvage struct {
	*pages
	roots   map[string]uint64  // of the buckets that have pages of their own
	inlines map[string][]entry // what is in the others
	torn    map[string]bool    // something of the bucket is missing
	orphans []uint64
	known   map[uint64]bool // the numbers of streams
	foreign bool            // it is no store

	db *bbolt.DB
	tx *bbolt.Tx
	n  int // puts in tx
}

// putsAtOnce is how many entries are written in one transaction.
const putsAtOnce = 10_000

// newSalvage finds out what is where.
func newSalvage(p *pages) *salvage {
	s := &salvage{
		pages: p, roots: map[string]uint64{}, inlines: map[string][]entry{}, torn: map[string]bool{},
		known: map[uint64]bool{},
	}
	s.again()
	free := p.readFreelist()
	p.walk(p.root, 0, s.bucketsIn)
	_, apart := s.roots[bucketMeta]
	s.foreign = len(p.bad) == 0 && !apart && s.inlines[bucketMeta] == nil
	if len(p.bad) > 0 && free {
		s.unreached(func(id uint64) { s.bucketsIn(loose(s.raw(id), s.isBucket)) })
	}
	for _, name := range ofStreams() {
		root, apart := s.roots[name]
		before := len(p.bad)
		if apart {
			p.walk(root, 1, func(entries []entry) {
				misfit := func(e entry) bool { return !fits(name, e) }
				s.torn[name] = s.torn[name] || slices.ContainsFunc(entries, misfit)
			})
		}
		s.torn[name] = s.torn[name] || len(p.bad) > before || !apart && s.inlines[name] == nil
	}
	if free {
		s.unreached(func(id uint64) { s.orphans = append(s.orphans, id) })
	}
	return s
}

// again lets the trees be walked once more.
func (s *salvage) again() { s.seen, s.bad = newBitmap(s.high), nil }

// unreached calls f for the pages that are neither free nor in a tree, as far as was seen.
func (s *salvage) unreached(f func(id uint64)) {
	for id := uint64(firstPage); id < s.high; id++ {
		if !s.seen.has(id) && !s.free.has(id) {
			f(id)
		}
	}
}

// isBucket reports whether an entry is a bucket of ours.
func (s *salvage) isBucket(e entry) bool {
	return slices.Contains(append(ofStreams(), bucketMeta), string(e.key)) && len(e.value) >= bucketHead
}

// bucketsIn takes in buckets, unless they are known.
func (s *salvage) bucketsIn(entries []entry) {
	for _, e := range entries {
		name := string(e.key)
		_, apart := s.roots[name]
		if !s.isBucket(e) || apart || s.inlines[name] != nil {
			continue
		}
		if root := byteOrder().Uint64(e.value); root != 0 {
			s.roots[name] = root
			continue
		}
		page := slices.Clone(e.value[bucketHead:])
		all, ok := parseInline(page)
		if !ok {
			s.torn[name] = true
			all = loose(page, sealed)
		}
		s.inlines[name] = append([]entry{}, all...)
	}
}

// raw returns a page without a look at what it says of itself.
func (s *salvage) raw(id uint64) []byte {
	page := make([]byte, s.size)
	if _, err := s.r.ReadAt(page, int64(id)*int64(s.size)); err != nil {
		return nil
	}
	for n := uint64(1); !s.seen.has(id+n) && id+n < s.high && !s.free.has(id+n); n++ {
		next := make([]byte, s.size)
		_, err := s.r.ReadAt(next, int64(id+n)*int64(s.size))
		if err != nil || byteOrder().Uint64(next) == id+n { // a page that does not continue this one
			break
		}
		page = append(page, next...)
	}
	return page
}

// loose returns the entries of a leaf that are good, whatever else is wrong there. Where a number is
// wrong, it follows from the others.
func loose(page []byte, good func(entry) bool) (found []entry) {
	if len(page) < pageHead+entryHead {
		return nil
	}
	o := byteOrder()
	for _, n := range []int{int(o.Uint16(page[10:])), int(o.Uint32(page[pageHead+4:])) / entryHead} {
		if all := looseOf(page, n, good); len(all) > len(found) {
			found = all
		}
	}
	return found
}

// looseOf is loose for a page of n entries.
func looseOf(page []byte, n int, good func(entry) bool) (found []entry) {
	o := byteOrder()
	at := pageHead + n*entryHead
	starts := func(i int) int { return pageHead + i*entryHead + int(o.Uint32(page[pageHead+i*entryHead+4:])) }
	for i := 0; i < n && pageHead+(i+1)*entryHead <= len(page); i++ {
		head := page[pageHead+i*entryHead:]
		key, value := int(o.Uint32(head[8:])), int(o.Uint32(head[12:]))
		end := at + key + value
		if i+1 < n && pageHead+(i+2)*entryHead <= len(page) {
			end = starts(i + 1)
		}
		for _, try := range [][3]int{
			{starts(i), key, value}, {at, key, value}, {at, end - at - value, value}, {at, key, end - at - key},
		} {
			e, ok := cutOut(page, try[0], try[1], try[2])
			if ok && good(e) {
				found = append(found, e)
				end = try[0] + try[1] + try[2]
				break
			}
		}
		at = end
	}
	return found
}

// cutOut returns the entry at a place, if the page has that.
func cutOut(page []byte, at, key, value int) (e entry, ok bool) {
	if at < pageHead || key <= 0 || value < 0 || at > len(page) || key > len(page)-at ||
		value > len(page)-at-key {
		return entry{}, false
	}
	return entry{key: page[at : at+key], value: page[at+key : at+key+value]}, true
}

// sealed reports whether a checksum is right.
func sealed(e entry) bool {
	_, ok := unseal(e.key, e.value)
	return ok || string(e.key) == string(keyVersion)
}

// fits reports whether an entry may be one of a bucket.
func fits(bucket string, e entry) bool {
	p, ok := unseal(e.key, e.value)
	switch {
	case !ok:
		return false
	case bucket == bucketStreams:
		return len(p) == stateBytes
	case bucket == bucketRecords:
		return len(e.key) == 16 && len(p) >= recordHead
	case bucket == bucketOrder:
		return len(e.key) == 16 && len(p) > 8
	default: // of the two that are alike
		return len(e.key) >= 8 && len(p) == 8
	}
}

// checkFormat returns an error for a file that is not to be touched.
func (s *salvage) checkFormat() error {
	for _, e := range s.inlines[bucketMeta] {
		if string(e.key) == string(keyVersion) {
			return checkVersion(string(e.value))
		}
	}
	if last := int64(s.high)*int64(s.size) - 1; !s.exists(last) {
		return fmt.Errorf("%w: it was cut off, and has no root any more", ErrDamaged)
	}
	return fmt.Errorf("%w: it does not say any more what its format is", ErrDamaged)
}

// to writes what can be had to a new file.
func (s *salvage) to(path string) (err error) {
	if s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoSync: true}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	if s.tx, err = s.db.Begin(true); err != nil {
		return err
	}
	if err = formatEmpty(s.tx); err == nil {
		err = s.copy()
	}
	if err != nil {
		return errors.Join(err, s.tx.Rollback())
	}
	return errors.Join(s.tx.Commit(), s.db.Sync())
}

// copy copies the buckets, that of the streams first.
func (s *salvage) copy() error {
	s.again()
	for _, e := range s.inlines[bucketMeta] {
		if string(e.key) == string(keyHeader) {
			if err := s.put(bucketMeta, e); err != nil {
				return err
			}
		}
	}
	for _, name := range ofStreams() { // and there will be another seed in place of bucketEnded
		if err := s.copyBucket(name); err != nil {
			return err
		}
	}
	if len(s.known) == 0 {
		return fmt.Errorf("%w: no stream is left in it", ErrDamaged)
	}
	return nil
}

func (s *salvage) copyBucket(name string) (err error) {
	all := func(entries []entry) {
		for _, e := range entries {
			if err == nil && fits(name, e) && s.wanted(name, e) {
				err = s.put(name, e)
			}
		}
	}
	all(s.inlines[name])
	if root, ok := s.roots[name]; ok {
		s.walk(root, 1, all)
	}
	if !s.torn[name] {
		return err
	}
	for _, id := range s.orphans {
		all(loose(s.raw(id), func(e entry) bool { return s.owner(e) == name }))
	}
	return err
}

// owner returns the bucket that is torn and that alone may have had an entry.
func (s *salvage) owner(e entry) (bucket string) {
	for name, torn := range s.torn {
		if torn && fits(name, e) {
			if bucket != "" {
				return ""
			}
			bucket = name
		}
	}
	return bucket
}

// wanted reports whether an entry belongs to a stream that is there.
func (s *salvage) wanted(bucket string, e entry) bool {
	if bucket != bucketStreams {
		number, _ := splitKey(e.key)
		return s.known[number]
	}
	st, ok := readState(e.key, e.value)
	if ok {
		s.known[st.number] = true
	}
	return ok
}

func (s *salvage) put(bucket string, e entry) (err error) {
	if s.n++; s.n%putsAtOnce == 0 {
		if err := s.tx.Commit(); err != nil {
			return err
		}
		if s.tx, err = s.db.Begin(true); err != nil {
			return err
		}
	}
	return s.tx.Bucket([]byte(bucket)).Put(e.key, slices.Clone(e.value))
}
