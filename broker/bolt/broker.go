package bolt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

var _ broker.Broker = (*Broker)(nil)

// Broker is a [broker.Broker] that keeps streams in a file. All methods are safe for concurrent
// use.
type Broker struct {
	opts  Options
	store *store
	era   atomic.Uint64 // part of all epochs; changed by the writer
	cache cache
	stats counters

	clock  clock
	newest struct { // in the file, when it was opened
		number uint64
		used   int64
	}

	epochs  epochs
	streams [kinds]atomic.Int64 // the number of streams; changed by the writer

	sink  atomic.Pointer[broker.Sink]
	carry sync.Mutex // held while publications without a stream are delivered

	labelling sync.Mutex // held while the file is labelled as a copy

	tasks   chan *task   // to the writer
	landing chan []*task // from the writer: committed tasks, in order

	// These belong to the writer.
	broken   bool               // the last commit has failed
	suspects map[*head]struct{} // streams whose state in the file may differ from memory; pinned
	labelled bool               // the file may be labelled as a copy
	used     [kinds]int64       // kept bytes
	ledgers  map[*head]*ledger
	entries  int // of all ledgers, approximately

	closing  chan struct{}
	once     sync.Once
	closed   chan struct{}
	closeErr error // valid once closed is closed
}

// Open opens the store in the file at path, and creates the file if it does not exist. The
// directory must exist. Only one Broker can have the file open: Open waits for it for a second, and
// then returns ErrLocked. Open returns ErrFormat for a file that is not a store or has a newer
// format, and ErrDamaged for a store that cannot be read. A file of an older format is converted to
// the newest one: older versions of this package cannot open it any more. The caller must close the
// Broker, or the Manager that uses it.
func Open(path string, o *Options) (*Broker, error) {
	b := &Broker{
		opts: o.resolved(), cache: newCache(), suspects: map[*head]struct{}{},
		ledgers: map[*head]*ledger{},
		clock:   newClock(0, 0),
		tasks:   make(chan *task), landing: make(chan []*task, 1),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	var err error
	if b.store, err = openStore(path, b.opts.LossWindow != 0); err != nil {
		return nil, err
	}
	if err := b.begin(); err != nil {
		return nil, errors.Join(err, b.store.close())
	}
	go b.run()
	return b, nil
}

// begin checks the file, draws a new era if necessary, and counts the streams.
func (b *Broker) begin() error {
	if err := b.store.view(checkFormat); err != nil {
		return err
	}
	b.reportHarm()
	if err := b.mend(); err != nil {
		return err
	}
	if err := b.store.view(b.count); err != nil {
		return err
	}
	b.clock = newClock(b.opts.ahead, b.newest.used)
	return b.store.write(func(tx *bbolt.Tx) (bool, error) {
		was, ok := readHeader(tx)
		if !ok {
			b.damaged(Damage{What: "header"})
		}
		now := header{era: was.era, lossy: b.opts.LossWindow != 0}
		if !ok || b.store.harm.metaLost || was.lossy || was.copied || b.opts.NewEpochs {
			now.era = draw()
		}
		b.era.Store(now.era)
		// A stream may have been lost, and must not get its old epoch again.
		hurt := b.stats.damaged.Load() > 0
		if b.epochs.seed, ok = readSeed(tx); !ok || hurt {
			b.epochs.seed = draw()
		}
		seed := sealNumber(keySeed, b.epochs.seed)
		meta := tx.Bucket([]byte(bucketMeta))
		return false, errors.Join(label(tx), meta.Put(keySeed, seed), now.write(tx), b.number(tx))
	})
}

// count counts the streams and their sizes.
func (b *Broker) count(tx *bbolt.Tx) error {
	return tx.Bucket([]byte(bucketStreams)).ForEach(func(name, value []byte) error {
		st, ok := readState(name, value)
		b.newest.number = max(b.newest.number, st.number)
		b.newest.used = max(b.newest.used, st.used)
		if ok {
			b.streams[st.kind].Add(1)
			b.used[st.kind] += st.bytes
		} else {
			b.damaged(Damage{Stream: string(name), What: "stream"})
		}
		return nil
	})
}

// number makes sure that no stream gets the number of another one: the counter of bbolt has no
// checksum.
func (b *Broker) number(tx *bbolt.Tx) error {
	streams := tx.Bucket([]byte(bucketStreams))
	return streams.SetSequence(max(streams.Sequence(), b.newest.number))
}

// run runs the parts of the broker until Close.
func (b *Broker) run() {
	var parts, landing sync.WaitGroup
	landing.Go(b.land)
	parts.Go(b.write)
	parts.Go(b.sweep)
	parts.Wait()
	close(b.landing)
	landing.Wait()
	b.carry.Lock() // wait for a delivery without a stream
	b.closeErr = b.end()
	b.carry.Unlock()
	close(b.closed)
}

// end closes the store and marks it as cleanly closed, unless an acknowledged publication was lost.
func (b *Broker) end() error {
	if b.broken {
		return errors.Join(b.store.failed, b.store.close())
	}
	var err error
	if b.opts.LossWindow != 0 || b.labelled {
		err = b.store.write(func(tx *bbolt.Tx) (bool, error) {
			return false, header{era: b.era.Load()}.write(tx)
		})
	}
	return errors.Join(err, b.store.close())
}

// Open starts delivery to s. It returns an error if the Broker already has a Sink.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	if !b.sink.CompareAndSwap(nil, &s) {
		return errors.New("bolt: the broker serves another Manager")
	}
	return b.err(context.Background())
}

// Close ends delivery, commits the pending changes, and closes the file. If ctx ends first, Close
// returns its error, and continues in the background. If the last commit failed and could not be
// repeated, Close returns that error. A second call returns an error that matches broker.ErrClosed.
func (b *Broker) Close(ctx context.Context) error {
	first := false
	b.once.Do(func() {
		first = true
		close(b.closing)
	})
	select {
	case <-b.closed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !first {
		return errClosed
	}
	return b.closeErr
}

// err returns an error if the broker is closed or ctx has ended.
func (b *Broker) err(ctx context.Context) error {
	select {
	case <-b.closing:
		return errClosed
	default:
		return context.Cause(ctx)
	}
}

// deliver passes a publication to the Sink.
func (b *Broker) deliver(p broker.Publication) {
	if s := b.sink.Load(); s != nil {
		(*s).Deliver(p)
	}
}

// lost calls Lost of the Sink.
func (b *Broker) lost(stream string) {
	if s := b.sink.Load(); s != nil {
		(*s).Lost(stream)
	}
}

// damaged counts and reports a damaged piece of the file.
func (b *Broker) damaged(d Damage) {
	b.stats.damaged.Add(1)
	b.opts.Logger.LogAttrs(context.Background(), slog.LevelError, "bolt: damaged",
		slog.String("what", d.What), slog.String("stream", d.Stream), slog.Uint64("offset", d.Offset))
	if b.opts.OnDamage != nil {
		b.opts.OnDamage(d)
	}
}

// logError logs an error that is returned to no caller.
func (b *Broker) logError(what string, err error) {
	b.opts.Logger.LogAttrs(context.Background(), slog.LevelError, what, slog.Any("error", err))
}
