package bolt

import (
	"errors"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"
)

// salvage copies everything that can be recovered from a file with a damaged structure to a new
// file. Intact pages of a bucket are copied unchanged. From a damaged page, and from pages that can
// only be reached through a damaged one, it copies the entries whose checksum is right. The latter
// are the pages that are neither free nor in a tree.
type salvage struct {
	*pages
	roots   map[string]uint64  // of the buckets with their own pages
	inlines map[string][]entry // the entries of the other buckets
	torn    map[string]bool    // a part of the bucket is missing
	orphans []uint64
	known   map[uint64]bool // numbers of streams
	foreign bool            // the file is not a store

	db *bbolt.DB
	tx *bbolt.Tx
	n  int // number of puts in tx
}

// putsAtOnce is how many entries are written in one transaction.
const putsAtOnce = 10_000

// newSalvage finds the buckets and the pages without a parent.
func newSalvage(p *pages) *salvage {
	s := &salvage{
		pages: p, roots: map[string]uint64{}, inlines: map[string][]entry{},
		torn: map[string]bool{}, known: map[uint64]bool{},
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

// again resets the walk, so that the trees can be walked once more.
func (s *salvage) again() { s.seen, s.bad = newBitmap(s.high), nil }

// unreached calls f for each page that is neither free nor visited.
func (s *salvage) unreached(f func(id uint64)) {
	for id := uint64(firstPage); id < s.high; id++ {
		if !s.seen.has(id) && !s.free.has(id) {
			f(id)
		}
	}
}

// isBucket reports whether an entry is a bucket of this package.
func (s *salvage) isBucket(e entry) bool {
	names := append(ofStreams(), bucketMeta)
	return slices.Contains(names, string(e.key)) && len(e.value) >= bucketHead
}

// bucketsIn records the buckets among entries that are not yet known.
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

// raw returns a page without checking its head, with the pages that seem to continue it.
func (s *salvage) raw(id uint64) []byte {
	page := make([]byte, s.size)
	if _, err := s.r.ReadAt(page, int64(id)*int64(s.size)); err != nil {
		return nil
	}
	for n := uint64(1); !s.seen.has(id+n) && id+n < s.high && !s.free.has(id+n); n++ {
		next := make([]byte, s.size)
		_, err := s.r.ReadAt(next, int64(id+n)*int64(s.size))
		if err != nil || byteOrder().Uint64(next) == id+n { // it is a page of its own
			break
		}
		page = append(page, next...)
	}
	return page
}

// loose returns the good entries of a leaf, whatever else is wrong with it. A wrong number in the
// page is derived from the other numbers.
func loose(page []byte, good func(entry) bool) (found []entry) {
	if len(page) < pageHead+entryHead {
		return nil
	}
	o := byteOrder()
	said, first := int(o.Uint16(page[10:])), int(o.Uint32(page[pageHead+4:]))
	for _, n := range []int{said, first / entryHead} {
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
	starts := func(i int) int {
		head := pageHead + i*entryHead
		return head + int(o.Uint32(page[head+4:]))
	}
	for i := 0; i < n && pageHead+(i+1)*entryHead <= len(page); i++ {
		head := page[pageHead+i*entryHead:]
		key, value := int(o.Uint32(head[8:])), int(o.Uint32(head[12:]))
		end := at + key + value
		if i+1 < n && pageHead+(i+2)*entryHead <= len(page) {
			end = starts(i + 1)
		}
		for _, try := range [][3]int{
			{starts(i), key, value}, {at, key, value},
			{at, end - at - value, value}, {at, key, end - at - key},
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

// cutOut returns the entry at this place, if it is within the page.
func cutOut(page []byte, at, key, value int) (e entry, ok bool) {
	if at < pageHead || key <= 0 || value < 0 || at > len(page) || key > len(page)-at ||
		value > len(page)-at-key {
		return entry{}, false
	}
	return entry{key: page[at : at+key], value: page[at+key : at+key+value]}, true
}

// sealed reports whether the checksum of an entry is right.
func sealed(e entry) bool {
	_, ok := unseal(e.key, e.value)
	return ok || string(e.key) == string(keyVersion)
}

// fits reports whether an entry may belong to a bucket.
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
	default: // ids and cursors have the same form
		return len(e.key) >= 8 && len(p) == 8
	}
}

// checkFormat returns an error for a file that must not be changed.
func (s *salvage) checkFormat() error {
	for _, e := range s.inlines[bucketMeta] {
		if string(e.key) == string(keyVersion) {
			return checkVersion(string(e.value))
		}
	}
	if last := int64(s.high)*int64(s.size) - 1; !s.exists(last) {
		return fmt.Errorf("%w: it was cut off and has no root", ErrDamaged)
	}
	return fmt.Errorf("%w: its format is unknown", ErrDamaged)
}

// to writes everything that can be recovered to a new file.
func (s *salvage) to(path string) (err error) {
	s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoSync: true})
	if err != nil {
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

// copy copies the buckets, the streams first.
func (s *salvage) copy() error {
	s.again()
	for _, e := range s.inlines[bucketMeta] {
		if string(e.key) == string(keyHeader) {
			if err := s.put(bucketMeta, e); err != nil {
				return err
			}
		}
	}
	for _, name := range ofStreams() { // bucketEnded is not copied: there will be a new seed
		if err := s.copyBucket(name); err != nil {
			return err
		}
	}
	if len(s.known) == 0 {
		return fmt.Errorf("%w: it has no stream that can be recovered", ErrDamaged)
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

// owner returns the only torn bucket to which an entry can belong, or "".
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

// wanted reports whether an entry belongs to a stream that exists.
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
