package bolt

import (
	"runtime"
	"time"

	bbolt "go.etcd.io/bbolt"
)

// The bounds of a batch, and of the uncommitted changes with a LossWindow.
const (
	batchTasks = 1024
	batchBytes = 4 << 20
	taskBytes  = 256 // added to the size of each task
)

const retryAfter = time.Second

// write is the goroutine that writes. Tasks that arrive during a commit form the next batch.
func (b *Broker) write() {
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	due.Stop()
	waiting := 0 // bytes written but not committed
	for {
		select {
		case t := <-b.tasks:
			tasks, size := b.collect(t)
			if waiting == 0 && b.opts.LossWindow > 0 {
				due.Reset(b.opts.LossWindow)
			}
			if waiting += size; b.transact(tasks, waiting >= batchBytes) {
				waiting = 0
			}
			b.again(due)
		case <-due.C:
			b.flush()
			waiting = 0
			b.again(due)
		case <-b.closing:
			b.flush()
			return
		}
	}
}

// again schedules another attempt if a commit with a LossWindow has failed, because readers wait
// for it.
func (b *Broker) again(due *time.Timer) {
	if b.broken && b.opts.LossWindow != 0 {
		due.Reset(retryAfter)
	}
}

// collect returns a task and the other tasks that are ready. Publishers whose last batch has just
// been reported get a chance to be in this one; otherwise half-empty batches would alternate.
func (b *Broker) collect(first *task) (tasks []*task, size int) {
	tasks, size = append(tasks, first), first.size+taskBytes
	for idle := 0; idle < 3 && len(tasks) < batchTasks && size < batchBytes; {
		select {
		case t := <-b.tasks:
			tasks, size, idle = append(tasks, t), size+t.size+taskBytes, 0
		default:
			runtime.Gosched()
			idle++
		}
	}
	return tasks, size
}

// transact does tasks in one transaction, and reports whether everything is on disk.
func (b *Broker) transact(tasks []*task, full bool) (synced bool) {
	var bt *batch
	var first *task
	err := b.store.write(func(tx *bbolt.Tx) (wait bool, err error) {
		bt = b.newBatch(tx)
		first = b.restore(bt)
		for _, t := range tasks {
			if t.err = t.do(bt); bt.err != nil {
				return false, bt.err
			}
		}
		if err := bt.finish(); err != nil {
			return false, err
		}
		synced = full || bt.sync || bt.wrote && b.opts.LossWindow == 0
		return !synced, nil
	})
	if err != nil {
		b.fail(bt, tasks, err)
		return true
	}
	if first != nil {
		tasks = append([]*task{first}, tasks...)
	}
	b.succeed(bt, tasks, synced)
	return synced
}

// succeed passes a batch on to be delivered.
func (b *Broker) succeed(bt *batch, tasks []*task, synced bool) {
	bt.adopt()
	b.broken = false
	for _, t := range tasks {
		if t.err == nil && t.committed != nil {
			t.err = t.committed()
		}
	}
	if synced {
		b.stats.commits.Add(1)
		b.trust()
	} else {
		b.suspect(bt)
	}
	b.landing <- tasks
}

// fail reports the failure to all tasks of a batch. The file may contain the batch nevertheless.
func (b *Broker) fail(bt *batch, tasks []*task, err error) {
	b.stats.failures.Add(1)
	b.broken = true
	b.forgetLedgers()
	if bt != nil {
		b.suspect(bt)
	}
	for _, t := range tasks {
		t.err = err
	}
	b.landing <- tasks // after what was acknowledged before
	if b.opts.LossWindow != 0 {
		b.logError("bolt: acknowledged publications are lost", err)
	}
}

// flush commits the waiting changes, and restores after a failure.
func (b *Broker) flush() {
	if b.opts.LossWindow != 0 || b.broken {
		b.transact(nil, true)
	}
}
