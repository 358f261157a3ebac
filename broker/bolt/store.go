package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long Open waits for a file that is in use.
const lockWait = time.Second

// growBytes is by how much the file grows at a time. Each time costs a sync.
const growBytes = 4 << 20

// store is the file. One goroutine writes; any number of goroutines read the last committed state.
//
// With a window, a transaction stays open over many writes, and readers see its contents, one
// reader at a time. Whenever the process ends, the file contains no half of a transaction.
type store struct {
	path     string
	window   bool
	pageSize int
	harm     harm

	mu   sync.RWMutex
	db   *bbolt.DB // nil after Close, and while reopening fails
	file *os.File  // the file of db, for abandon
	open *bbolt.Tx // open transaction; belongs to the writer
	last int       // id of the last transaction known to be committed

	failed error // why the file must be reopened before the next transaction
	stuck  error // why it cannot be reopened

	onCommit func(commit func() error) error // for tests
}

// openStore opens the file, and creates it if it does not exist.
func openStore(path string, window bool) (*store, error) {
	if path == "" {
		return nil, errors.New("bolt: no path")
	}
	s := &store{path: path, window: window}
	if err := s.create(); err != nil {
		return nil, err
	}
	if err := s.inspect(); err != nil {
		return nil, err
	}
	return s, s.connect()
}

// create makes an empty store under another name first, so that a crash never leaves half of one.
func (s *store) create() error {
	if info, err := os.Stat(s.path); err == nil && info.Size() > 0 {
		return nil
	}
	fresh := s.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(fresh, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(formatEmpty), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// syncDir makes the names in a directory durable, if the system supports it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil || runtime.GOOS == "windows" {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// connect opens the existing file.
func (s *store) connect() error {
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout: lockWait, FreelistType: bbolt.FreelistMapType,
			InitialMmapSize: mapBytes(), NoStatistics: true,
			OpenFile: func(path string, flag int, mode os.FileMode) (file *os.File, err error) {
				s.file, err = os.OpenFile(path, flag, mode)
				return s.file, err
			},
		})
		return err
	})
	if errors.Is(err, ErrDamaged) {
		s.db = nil
		_ = abandon(s.file)
	}
	if err != nil {
		return s.refused(err)
	}
	s.db.AllocSize = growBytes
	s.pageSize = s.db.Info().PageSize
	return guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			s.last = tx.ID()
			return nil
		})
	})
}

// refused explains why bbolt has not opened the file.
func (s *store) refused(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: %s", ErrLocked, s.path)
	case errors.Is(err, ErrDamaged), isSystem(err):
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrFormat, s.path, err)
}

// isSystem reports whether an error comes from the operating system.
func isSystem(err error) bool {
	_, path := errors.AsType[*os.PathError](err)
	_, call := errors.AsType[syscall.Errno](err)
	return path || call
}

// mapBytes returns how much address space is reserved, so that the file can grow while it is read.
// It takes no memory. On Windows the file would become as large.
func mapBytes() int {
	if runtime.GOOS == "windows" || ^uint(0)>>32 == 0 {
		return 0
	}
	return 1 << 30
}

// guard turns a panic into an error: bbolt trusts what it reads, and reading beyond the end of a
// truncated file faults.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return f()
}

// view runs f on the last written state.
func (s *store) view(f func(tx *bbolt.Tx) error) error {
	if s.window {
		s.mu.Lock()
		defer s.mu.Unlock()
	} else {
		s.mu.RLock()
		defer s.mu.RUnlock()
	}
	switch {
	case s.db == nil, s.window && s.failed != nil: // acknowledged publications are lost
		return s.closedBecause()
	case s.window && s.open != nil:
		return guard(func() error { return f(s.open) })
	}
	return guard(func() error { return s.db.View(f) })
}

func (s *store) closedBecause() error {
	if s.failed != nil {
		return s.failed
	}
	return errClosed
}

// write runs f in a transaction. It commits the transaction unless f says that it may wait. If f
// returns an error, its changes and all waiting changes are rolled back.
func (s *store) write(f func(tx *bbolt.Tx) (wait bool, err error)) error {
	if s.failed != nil {
		if err := s.reconnect(); err != nil {
			return err
		}
	}
	if s.window {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	var wait bool
	err := guard(func() (err error) {
		if s.open == nil {
			if s.open, err = s.db.Begin(true); err != nil {
				return err
			}
		}
		wait, err = f(s.open)
		return err
	})
	if err != nil {
		return s.fail(err)
	}
	if wait {
		return nil
	}
	return s.commit()
}

// commit commits the open transaction. With a window, the caller holds the lock.
func (s *store) commit() error {
	tx := s.open
	if tx == nil {
		return nil
	}
	id := tx.ID()
	commit := func() error { return guard(tx.Commit) }
	var err error
	if s.onCommit == nil {
		err = commit()
	} else {
		err = s.onCommit(commit)
	}
	if err != nil {
		return s.fail(err)
	}
	s.open, s.last = nil, id
	return nil
}

// fail rolls the transaction back. After a failure bbolt may take the transaction for committed and
// reuse pages that the last good one needs, so nothing is written before the file is reopened.
func (s *store) fail(cause error) error {
	if tx := s.open; tx != nil {
		err := guard(tx.Rollback)
		if errors.Is(err, ErrDamaged) {
			s.stuck = err // the transaction holds bbolt's lock, so Close would block forever
		}
	}
	s.open = nil
	s.failed = prefixed(cause)
	return s.failed
}

// prefixed adds the prefix of this package to an error that has none.
func prefixed(err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("bolt: %w", err)
}

// reconnect reopens the file after a failure.
func (s *store) reconnect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck != nil {
		return s.stuck
	}
	known := s.last
	if s.db != nil {
		err := guard(s.db.Close)
		s.db = nil
		if err != nil {
			return prefixed(err)
		}
	}
	if err := rewrite(s.path, 2*s.pageSize); err != nil {
		return prefixed(err)
	}
	err := s.connect()
	if err == nil && s.last != known && s.last != known+1 {
		err = errors.Join(ErrChanged, s.db.Close())
		s.stuck = err
	}
	if err != nil {
		s.db = nil
		return err
	}
	s.failed = nil
	return nil
}

// rewrite writes the head of the file again, unchanged, and syncs it. After a failed sync, memory
// may hold pages that the disk does not have and that no later sync writes. Which of two
// transactions is the last must not depend on that.
func rewrite(path string, size int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	head := make([]byte, size)
	_, err = f.ReadAt(head, 0)
	if err == nil {
		_, err = f.WriteAt(head, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// close commits the waiting changes, and closes the file when no reader uses it.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return s.stuck
	}
	err := s.commit()
	if s.stuck == nil {
		err = errors.Join(err, guard(s.db.Close))
	} else {
		err = errors.Join(s.stuck, abandon(s.file))
	}
	s.db = nil
	return err
}
