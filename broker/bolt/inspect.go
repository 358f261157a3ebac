package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bbolt "go.etcd.io/bbolt"
)

// harm describes what was wrong with the structure of a file when it was opened.
type harm struct {
	metaLost bool     // a meta page was damaged: the last transaction may be lost
	pages    []uint64 // damaged pages
	salvaged bool     // the file was written anew
}

// inspect checks the structure of the file. It replaces a damaged file by a new one with everything
// that can be recovered.
func (s *store) inspect() error {
	db, err := bbolt.Open(s.path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
	if err != nil {
		return s.refused(err)
	}
	fresh, err := s.look()
	err = errors.Join(err, guard(db.Close))
	if fresh == "" {
		return err
	}
	if err == nil {
		err = s.replace(fresh)
	}
	if err != nil {
		_ = os.Remove(fresh)
	}
	return err
}

// look checks the structure of the file. If it is damaged, look writes everything that can be
// recovered to a new file, and returns its name.
func (s *store) look() (fresh string, err error) {
	file, err := os.Open(s.path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	err = guard(func() error {
		p, ok := readPages(file)
		if !ok {
			return fmt.Errorf("%w: no meta page", ErrDamaged)
		}
		whole := p.check()
		if s.harm.metaLost = p.metaLost; whole {
			return nil
		}
		s.harm.pages = p.bad
		found := newSalvage(p)
		if found.foreign {
			return nil // checkFormat refuses the file later
		}
		if err := found.checkFormat(); err != nil {
			return err
		}
		s.harm.salvaged = true
		fresh, err = s.salvage(file, found)
		return err
	})
	return fresh, err
}

// salvage writes what was found in a file to a new one, and returns its name.
func (s *store) salvage(file *os.File, found *salvage) (fresh string, err error) {
	empty, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+".*.new")
	if err != nil {
		return "", err
	}
	fresh = empty.Name()
	if err := empty.Close(); err != nil {
		return fresh, err
	}
	if err := found.to(fresh); err != nil {
		return fresh, err
	}
	was, err := file.Stat()
	if err != nil {
		return fresh, err
	}
	now, err := os.Stat(s.path)
	if err == nil && !os.SameFile(was, now) {
		err = fmt.Errorf("%w: %s", ErrLocked, s.path) // another process has replaced the file
	}
	return fresh, err
}

// replace puts the file fresh in the place of the damaged one, which is renamed.
func (s *store) replace(fresh string) error {
	aside := s.path + ".damaged"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(s.path, aside); err != nil { // some file systems have no hard links
		if err := os.Rename(s.path, aside); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// reportHarm reports what was wrong with the structure.
func (b *Broker) reportHarm() {
	h := &b.store.harm
	if h.metaLost {
		b.damaged(Damage{What: "meta"})
	}
	for _, id := range h.pages {
		b.damaged(Damage{What: "page", Offset: id})
	}
	if h.salvaged && len(h.pages) == 0 {
		b.damaged(Damage{What: "freelist"})
	}
}

// mend makes the states of streams agree with what was salvaged.
func (b *Broker) mend() error {
	if !b.store.harm.salvaged {
		return nil
	}
	return b.store.write(func(tx *bbolt.Tx) (bool, error) {
		bt := b.newBatch(tx)
		states := map[string]*state{}
		err := bt.streams.ForEach(func(name, value []byte) error {
			if st, ok := readState(name, value); ok {
				states[string(name)] = &st
			}
			return nil
		})
		for name, st := range states {
			bt.mend(name, st)
			bt.put(bt.streams, []byte(name), st.value([]byte(name)))
		}
		return false, errors.Join(err, bt.err)
	})
}

// mend discards what is older than the newest missing publication of a stream, and counts the rest.
func (bt *batch) mend(name string, st *state) {
	for offset := st.top; offset > st.floor; offset-- {
		key := offsetKey(st.number, offset)
		if _, ok := readRecord(key, bt.records.Get(key)); !ok {
			bt.b.damaged(Damage{Stream: name, Offset: offset, What: "record"})
			bt.cut(st, offset)
			return
		}
	}
	bt.recount(st)
}
