package bolt

import "context"

// task is something that is written. Many share a transaction.
type task struct {
	heads []*head // what it is about; pinned until it is done
	size  int     // about how much it writes, in bytes

	// do writes. What it returns is its own fault, and it has written nothing then; what is the
	// file's fault, the batch notes itself. Run by the writer, once.
	do func(bt *batch) error
	// committed runs when the transaction is on the disk and before another begins. Optional.
	committed func() error
	// land tells the world, in the order of the commits. Optional.
	land func()

	err  error
	done chan error
}

// submit has the writer do a task, and waits for it. If it returns the error of ctx, the task may
// have been done, or may still be. It takes over the pins of the task's heads.
func (b *Broker) submit(ctx context.Context, t *task) error {
	t.done = make(chan error, 1)
	err := b.err(ctx)
	if err == nil {
		select {
		case b.tasks <- t:
			select {
			case err := <-t.done:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-b.closing:
			err = errClosed
		}
	}
	b.release(t)
	return err
}

// release gives up what a task has pinned.
func (b *Broker) release(t *task) {
	for _, h := range t.heads {
		b.cache.unpin(h)
	}
}

// finish tells who waits for a task.
func (b *Broker) finish(t *task) {
	b.release(t)
	t.done <- t.err
}

// land delivers what is committed, one task after another, while the next batch is written.
func (b *Broker) land() {
	for tasks := range b.landing {
		for _, t := range tasks {
			if t.err == nil && t.land != nil {
				t.land()
			}
			b.finish(t)
		}
	}
}
