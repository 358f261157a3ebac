//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/realtime-go/realtime/bench/load"
)

// journal is a file with the result of each run, one line of JSON each. The zero journal keeps
// nothing.
type journal struct {
	file *os.File
	of   string // command and commit; other results are refused
}

// entry is a line of the journal.
type entry struct {
	Of     string
	Peer   string
	Began  time.Time
	Took   time.Duration
	Result load.Result
}

// openJournal opens or creates the journal with this name, and returns its entries. An empty name
// means no journal.
func openJournal(name string) (journal, []entry, error) {
	if name == "" {
		return journal{}, nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return journal{}, nil, err
	}
	j := journal{f, commit() + ": " + strings.Join(commandLine(), " ")}
	entries, err := j.entries()
	if err != nil {
		return journal{}, nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return j, entries, nil
}

func (j journal) entries() (entries []entry, err error) {
	lines := bufio.NewScanner(j.file)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(entries)+1, err)
		}
		if e.Of != j.of {
			return nil, fmt.Errorf("it belongs to another matrix: %s", e.Of)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// note appends an entry.
func (j journal) note(e entry) error {
	if j.file == nil {
		return nil
	}
	e.Of = j.of
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

func (j journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
