package realtime

import (
	"context"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Shutdown ends the Manager gently. New connections are refused with 503. Each
// connection is closed with code 1012, after what is queued for it has been written;
// the goodbyes to plain clients are spread over Options.DrainWindow, or half of the time that ctx
// leaves, so that they do not all come back at once. It waits until all
// connections have ended, their handlers have returned and OnDisconnect has been
// called.
//
// If ctx ends first, the connections that are left are cut, and its cause is
// returned. Shutdown may be called again, also while it runs. A handler may call it
// with its own ctx: it is not waited for then.
func (m *Manager) Shutdown(ctx context.Context) error {
	inside := inHandler(ctx, &m.sessions.tails)
	if inside {
		detached, cancel := detach(ctx)
		defer cancel()
		ctx = detached
	}
	m.capacity.Close()
	m.drain(ctx)
	err := m.await(ctx)
	m.closed.Store(true)
	m.stopBackground()
	if tail := m.sessions.tails.wait(ctx, inside); err == nil {
		err = tail
	}
	return err
}

// Close ends the Manager now: connections have a second to take what is queued for
// them, and are closed with code 1001. It waits for everything that the Manager
// started, but not for code of the application, so handlers may call it. It may be
// called again. It returns nil.
func (m *Manager) Close() error {
	m.capacity.Close()
	m.closed.Store(true)
	for _, c := range m.conns.byID.Values() {
		if !c.session.End(&CloseError{Cause: CauseShutdown, Code: CloseAway}, transport.CloseGrace) {
			// It is about to end, but perhaps it has more time than that.
			c.link.Close(sendqueue.CloseFrame(uint16(CloseAway), ""), transport.CloseGrace)
		}
	}
	m.sessions.work.Wait()
	m.stopBackground()
	return nil
}

func (m *Manager) stopBackground() {
	m.absences.endAll()
	m.wheel.Close()
	m.sessions.pool.Queues.Flushers.Close()
	m.endpoint.upgrader.Close()
	m.cancel()
	m.background.Wait()
	m.broker.Close()
}

// drain says goodbye to everybody: at once to clients of realtime.v1, which have been told over how
// much time to spread their return, and one after another to plain ones, which may come back at
// once.
func (m *Manager) drain(ctx context.Context) {
	var plain []*Conn
	for _, c := range m.conns.byID.Values() {
		if c.proto == wire.ProtoV1 {
			m.restart(c)
		} else {
			plain = append(plain, c)
		}
	}
	if len(plain) == 0 {
		return
	}
	start, pause := time.Now(), m.pause(ctx, len(plain))
	pace := time.NewTimer(0)
	defer pace.Stop()
	for i, c := range plain {
		if wait := time.Until(start.Add(time.Duration(i) * pause)); wait > 0 {
			pace.Reset(wait)
			select {
			case <-pace.C:
			case <-ctx.Done():
				pause = 0
			}
		}
		m.restart(c)
	}
}

// restart ends a connection whose client is to come back to the next server.
func (m *Manager) restart(c *Conn) {
	why := &CloseError{Cause: CauseShutdown, Code: CloseRestart, Reason: "restart"}
	c.session.End(why, m.opts.WriteTimeout)
}

// pause is the time between two goodbyes.
func (m *Manager) pause(ctx context.Context, n int) time.Duration {
	window := min(m.opts.DrainWindow, time.Duration(n)*time.Millisecond)
	if end, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(end)/2)
	}
	return max(0, window/time.Duration(n))
}

// await waits for the connections, and cuts them when ctx ends.
func (m *Manager) await(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		m.sessions.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range m.conns.byID.Values() {
		c.link.Kill()
	}
	<-done
	return context.Cause(ctx)
}

// detach returns ctx with its deadline but without its cancellation: a handler's
// context ends with the connection that Shutdown is about to end.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithoutCancel(ctx)
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(free, end)
	}
	return context.WithCancel(free)
}
