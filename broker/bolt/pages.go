package bolt

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"slices"
)

// bbolt has checksums only on its two meta pages, and trusts the rest: with a damaged page it may
// panic, run forever, or reuse pages that are in use. So the structure of a file is checked when it
// is opened, before bbolt reads it. The layout of a page follows from the sizes of its keys and
// values, and each page is part of a tree, free, or part of the freelist; the check finds any
// single wrong bit in this structure. Errors within keys and values are left to their checksums.

// The kinds of pages.
const (
	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10
)

const (
	firstPage    = 2  // after the meta pages
	pageHead     = 16 // id, kind, count, overflow
	entryHead    = 16 // before the keys and values, for each entry
	bucketHead   = 16 // the root and the sequence of a bucket, at the start of its value
	bucketFlag   = 0x01
	metaBytes    = 64
	metaMagic    = 0xED0CDAED
	maxPages     = 1 << 31
	maxTreeDepth = 32
)

// byteOrder returns the byte order of bbolt's files: that of the machine that wrote them.
func byteOrder() binary.ByteOrder { return binary.NativeEndian }

// pages is the page structure of a bbolt file.
type pages struct {
	r        io.ReaderAt
	size     int
	root     uint64
	freelist uint64
	high     uint64 // after the last page
	txid     uint64

	metaLost bool // one of the two meta pages is damaged; the last transaction may be lost

	seen bitmap // pages of trees and of the freelist
	free bitmap
	bad  []uint64 // damaged pages

	levels [maxTreeDepth]level
}

// level is the memory for one level of a tree. It is reused from page to page.
type level struct {
	page    []byte
	entries []entry
}

// entry is a key with its value, or in a branch a key with its child page.
type entry struct {
	key, value []byte
	bucket     bool
	child      uint64
}

// readPages reads the meta pages of a file. It reports false if neither is valid.
func readPages(r io.ReaderAt) (*pages, bool) {
	for size := 1 << 9; size <= 1<<16; size <<= 1 {
		p := &pages{r: r, size: size, metaLost: true}
		found := 0
		for i := range int64(2) {
			if p.readMeta(i * int64(size)) {
				found++
			}
		}
		if found > 0 {
			p.metaLost = found < 2
			p.seen, p.free = newBitmap(p.high), newBitmap(p.high)
			return p, true
		}
	}
	return nil, false
}

// readMeta reads a meta page for this page size. It reports whether the page is valid, and uses its
// values if it is the newer one.
func (p *pages) readMeta(at int64) bool {
	data := make([]byte, pageHead+metaBytes)
	if _, err := p.r.ReadAt(data, at); err != nil {
		return false
	}
	m, o := data[pageHead:], byteOrder()
	hash := fnv.New64a()
	_, _ = hash.Write(m[:metaBytes-8])
	switch {
	case o.Uint32(m) != metaMagic, o.Uint64(m[56:]) != hash.Sum64(),
		o.Uint32(m[8:]) != uint32(p.size), o.Uint64(m[40:]) > maxPages:
		return false
	case p.high == 0 || o.Uint64(m[48:]) > p.txid:
		p.root, p.freelist = o.Uint64(m[16:]), o.Uint64(m[32:])
		p.high, p.txid = o.Uint64(m[40:]), o.Uint64(m[48:])
	}
	return true
}

// check reports whether the structure is intact.
func (p *pages) check() bool {
	plain := true
	whole := p.walkRoot(func(_ []byte, root uint64) {
		p.walk(root, 1, func(entries []entry) {
			for _, e := range entries {
				plain = plain && !e.bucket
			}
		})
	}, func([]byte, []entry) {})
	return whole && plain && p.readFreelist() && len(p.bad) == 0 && p.complete()
}

// complete reports whether each page is either in use or free, and none is both.
func (p *pages) complete() bool {
	for id := uint64(firstPage); id < p.high; id++ {
		if p.seen.has(id) == p.free.has(id) {
			return false
		}
	}
	return true
}

// walkRoot calls tree for each bucket that has its own pages, and inline for the entries of each
// other bucket. It reports false if the page of the buckets is damaged.
func (p *pages) walkRoot(
	tree func(name []byte, root uint64), inline func(name []byte, all []entry),
) bool {
	whole := true
	p.walk(p.root, 0, func(buckets []entry) {
		for _, e := range buckets {
			if !e.bucket || len(e.value) < bucketHead {
				whole = false
				continue
			}
			if root := byteOrder().Uint64(e.value); root != 0 {
				tree(e.key, root)
				continue
			}
			all, ok := parseInline(e.value[bucketHead:])
			if ok {
				inline(e.key, all)
			}
			whole = whole && ok
		}
	})
	return whole && len(p.bad) == 0
}

// walk visits the leaves of a tree in order. The entries passed to visit are valid until visit
// returns. Damaged pages are recorded, and their subtrees are not visited. Each page is visited
// once, so walk terminates whatever the pages contain.
func (p *pages) walk(root uint64, depth int, visit func(entries []entry)) {
	p.walkIn(root, nil, nil, depth, visit)
}

// walkIn walks a subtree whose keys must be at least from and, unless to is nil, less than to.
func (p *pages) walkIn(id uint64, from, to []byte, depth int, visit func([]entry)) {
	if depth == maxTreeDepth {
		p.bad = append(p.bad, id)
		return
	}
	page, entries, ok := p.read(id, &p.levels[depth])
	if !ok || !within(entries, from, to) {
		p.bad = append(p.bad, id)
		return
	}
	for n := range uint64(len(page) / p.size) {
		p.seen.add(id + n)
	}
	if kindOfPage(page) == pageLeaf {
		visit(entries)
		return
	}
	for i, e := range entries {
		next := to
		if i+1 < len(entries) {
			next = entries[i+1].key
		}
		p.walkIn(e.child, e.key, next, depth+1, visit)
	}
}

// within reports whether the keys are in order and within the bounds.
func within(entries []entry, from, to []byte) bool {
	for i, e := range entries {
		if i > 0 {
			from = entries[i-1].key
		}
		if order := bytes.Compare(from, e.key); order > 0 || i > 0 && order == 0 {
			return false
		}
	}
	n := len(entries)
	return n == 0 || to == nil || bytes.Compare(entries[n-1].key, to) < 0
}

// read returns a page of a tree that was not visited before, and its entries. It reports false if
// the page is damaged.
func (p *pages) read(id uint64, l *level) (page []byte, entries []entry, ok bool) {
	page, ok = p.load(id, l)
	if !ok {
		return nil, nil, false
	}
	kind := kindOfPage(page)
	if kind != pageLeaf && kind != pageBranch || byteOrder().Uint64(page) != id {
		return nil, nil, false
	}
	if entries, ok = parse(l.entries, page, kind); !ok {
		return nil, nil, false
	}
	l.entries = entries
	if len(entries) == 0 && (kind == pageBranch || slices.ContainsFunc(page[pageHead:], notZero)) {
		return nil, nil, false // the page was not always empty, and bbolt clears new pages
	}
	return page, entries, (sizeOf(entries)-1)/p.size+1 == len(page)/p.size
}

func notZero(b byte) bool { return b != 0 }

// sizeOf returns the length of a page with these entries.
func sizeOf(entries []entry) int {
	n := pageHead
	for _, e := range entries {
		n += entryHead + len(e.key) + len(e.value)
	}
	return n
}

// parseInline returns the entries of a bucket whose page is part of another page.
func parseInline(page []byte) (all []entry, ok bool) {
	all, ok = parse(nil, page, pageLeaf)
	return all, ok && within(all, nil, nil) && sizeOf(all) == len(page)
}

// load returns the bytes of a page that was not visited before, with its overflow pages.
func (p *pages) load(id uint64, l *level) (page []byte, ok bool) {
	if id < firstPage || id >= p.high || p.seen.has(id) {
		return nil, false
	}
	l.page = slices.Grow(l.page[:0], p.size)
	page = l.page[:p.size]
	if _, err := p.r.ReadAt(page, int64(id)*int64(p.size)); err != nil {
		return nil, false
	}
	more := uint64(byteOrder().Uint32(page[12:]))
	if more == 0 {
		return page, true
	}
	if more >= p.high-id {
		return nil, false
	}
	for n := range more {
		if p.seen.has(id + 1 + n) {
			return nil, false
		}
	}
	if last := int64(id+more+1)*int64(p.size) - 1; !p.exists(last) { // check before the allocation
		return nil, false
	}
	page = make([]byte, (1+int(more))*p.size)
	_, err := p.r.ReadAt(page, int64(id)*int64(p.size))
	return page, err == nil
}

// exists reports whether the file has a byte at this offset.
func (p *pages) exists(at int64) bool {
	_, err := p.r.ReadAt(make([]byte, 1), at)
	return err == nil
}

func kindOfPage(page []byte) uint16 { return byteOrder().Uint16(page[8:]) }

// parse returns the entries of a page of a kind. It reports false if the page is not laid out as
// bbolt does it: the keys and values follow each other, in the order of the heads before them. It
// uses the memory of into.
func parse(into []entry, page []byte, kind uint16) (entries []entry, ok bool) {
	if len(page) < pageHead || kindOfPage(page) != kind {
		return nil, false
	}
	o := byteOrder()
	n := int(o.Uint16(page[10:]))
	at := pageHead + n*entryHead
	if at > len(page) {
		return nil, false
	}
	entries = slices.Grow(into[:0], n)[:n]
	for i := range entries {
		entries[i] = entry{}
		start := pageHead + i*entryHead
		head := page[start : start+entryHead]
		var pos, keyBytes, valueBytes uint32
		if kind == pageLeaf {
			entries[i].bucket = o.Uint32(head) == bucketFlag
			pos, keyBytes, valueBytes = o.Uint32(head[4:]), o.Uint32(head[8:]), o.Uint32(head[12:])
			ok = o.Uint32(head) <= bucketFlag
		} else {
			pos, keyBytes, entries[i].child = o.Uint32(head), o.Uint32(head[4:]), o.Uint64(head[8:])
			ok = true
		}
		rest := uint64(len(page) - at)
		if !ok || keyBytes == 0 || uint64(pos) != uint64(at-start) ||
			uint64(keyBytes)+uint64(valueBytes) > rest {
			return nil, false
		}
		middle, end := at+int(keyBytes), at+int(keyBytes)+int(valueBytes)
		entries[i].key, entries[i].value = page[at:middle:middle], page[middle:end:end]
		at = end
	}
	return entries, true
}

// readFreelist reads which pages are free. It reports false if the list is damaged.
func (p *pages) readFreelist() bool {
	page, ok := p.load(p.freelist, &level{})
	if !ok || byteOrder().Uint64(page) != p.freelist || kindOfPage(page) != pageFreelist {
		return false
	}
	o := byteOrder()
	n, ids := uint64(o.Uint16(page[10:])), page[pageHead:]
	if n == 0xffff { // the number does not fit, and is the first entry
		n, ids = o.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return false
	}
	last := uint64(0)
	for i := range n {
		id := o.Uint64(ids[8*i:])
		if id < firstPage || id <= last || id >= p.high {
			return false
		}
		p.free.add(id)
		last = id
	}
	for n := range uint64(len(page) / p.size) {
		p.seen.add(p.freelist + n)
	}
	return true
}

// bitmap is a set of pages.
type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, n/64+1) }

func (b bitmap) add(id uint64)      { b[id/64] |= 1 << (id % 64) }
func (b bitmap) has(id uint64) bool { return b[id/64]&(1<<(id%64)) != 0 }
