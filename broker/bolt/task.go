package bolt

import "context"

// task is a change to the file. Many tasks share a transaction.
type task struct {
	heads []*head // the streams it changes; pinned until it is done
	size  int     // approximately how much it writes, in bytes

	// do makes the change. It returns an error only if it has written nothing; the batch itself
	// records errors of the file. The writer calls it once.
	do func(bt *batch) error
	// committed runs after the transaction is on disk and before the next one begins. Optional.
	committed func() error
	// land delivers the results, in the order of the commits. Optional.
	land func()

	err  error
	done chan error
}

// submit passes a task to the writer, and waits for it. If submit returns the error of ctx, the
// task may have been done or may still be done. It takes over the pins of the task's heads.
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

// release unpins the heads of a task.
func (b *Broker) release(t *task) {
	for _, h := range t.heads {
		b.cache.unpin(h)
	}
}

// finish passes the result of a task to its submitter.
func (b *Broker) finish(t *task) {
	b.release(t)
	t.done <- t.err
}

// land delivers committed tasks, one after another, while the next batch is written.
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
