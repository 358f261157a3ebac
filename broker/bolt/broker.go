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

// Broker keeps streams in a file. All its methods are safe for concurrent use.
type Broker struct {
	opts  Options
	store *store
	era   atomic.Uint64 // of all epochs; changed by the writer
	cache cache
	stats counters

	clock  clock
	newest struct { // in the file when it was opened
		number uint64
		used   int64
	}

	epochs  epochs
	streams [kinds]atomic.Int64 // how many there are; changed by the writer

	sink  atomic.Pointer[broker.Sink]
	carry sync.Mutex // held while what is not kept is delivered

	labelling sync.Mutex // held while the file says that it is a copy

	tasks   chan *task   // to the writer
	landing chan []*task // from the writer, what is committed, in order

	// The writer's:
	broken   bool               // the last commit has failed
	suspects map[*head]struct{} // of which the file may not say what memory does; pinned
	labelled bool               // the file may say that it is a copy
	used     [kinds]int64       // bytes that are kept
	ledgers  map[*head]*ledger
	entries  int // of all ledgers, about

	closing  chan struct{}
	once     sync.Once
	closed   chan struct{}
	closeErr error // once closed is
}

// Open opens the store in the file at path, and makes it if there is none. The directory must be
// there. The file may be opened once at a time: Open waits a second, and returns ErrLocked then.
// It returns ErrFormat for a file that is none of its own or has a newer format, and ErrDamaged if
// one of its own cannot be read. A file of an older format gets the newest one: older versions of
// this package cannot open it any more. Close the Broker, or the Manager that it is given to.
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

// begin checks the file, draws another era if it must, and counts what is there.
func (b *Broker) begin() error {
	if err := b.store.view(checkFormat); err != nil {
		return err
	}
	b.tellHarm()
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
		// A stream may be lost, and must not have its epoch again.
		hurt := b.stats.damaged.Load() > 0
		if b.epochs.seed, ok = readSeed(tx); !ok || hurt {
			b.epochs.seed = draw()
		}
		seed := sealNumber(keySeed, b.epochs.seed)
		meta := tx.Bucket([]byte(bucketMeta))
		return false, errors.Join(label(tx), meta.Put(keySeed, seed), now.write(tx), b.number(tx))
	})
}

// count finds out how many streams there are, and how large they are.
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

// number sees to it that no stream gets the number of another one: bbolt counts without a checksum.
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
	b.carry.Lock() // what is under way there
	b.closeErr = b.end()
	b.carry.Unlock()
	close(b.closed)
}

// end closes the store. It is clean from here on, unless something that was acknowledged is lost.
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

// Open starts delivery to s. A Broker has one Sink.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	if !b.sink.CompareAndSwap(nil, &s) {
		return errors.New("bolt: the broker serves another Manager")
	}
	return b.err(context.Background())
}

// Local reports true: what is kept here is for one process alone.
func (b *Broker) Local() bool { return true }

// Close ends delivery, commits what waits, and closes the file. If ctx ends first, it returns
// that, and goes on in the background. It returns why if the last commit has failed and could not
// be made good, and broker.ErrClosed when it is called again.
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

// err says why nothing may begin any more, if it may not.
func (b *Broker) err(ctx context.Context) error {
	select {
	case <-b.closing:
		return errClosed
	default:
		return context.Cause(ctx)
	}
}

// deliver gives a publication to the Sink.
func (b *Broker) deliver(p broker.Publication) {
	if s := b.sink.Load(); s != nil {
		(*s).Deliver(p)
	}
}

// lost tells the Sink about a stream.
func (b *Broker) lost(stream string) {
	if s := b.sink.Load(); s != nil {
		(*s).Lost(stream)
	}
}

// damaged tells whoever wants to know.
func (b *Broker) damaged(d Damage) {
	b.stats.damaged.Add(1)
	b.opts.Logger.LogAttrs(context.Background(), slog.LevelError, "bolt: damaged",
		slog.String("what", d.What), slog.String("stream", d.Stream), slog.Uint64("offset", d.Offset))
	if b.opts.OnDamage != nil {
		b.opts.OnDamage(d)
	}
}

// complain logs what nobody waits for.
func (b *Broker) complain(what string, err error) {
	b.opts.Logger.LogAttrs(context.Background(), slog.LevelError, what, slog.Any("error", err))
}
