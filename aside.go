package realtime

import (
	"context"
	"log/slog"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/wire"
)

// departed looks at a connection that has ended and that no other one takes the place of: a message
// that it could not cope with must not be what the next one begins with for ever. It does not wait
// for the broker.
//
// A connection whose peer has never been heard says nothing about its peer: it may have been cut
// before anything was read.
func (ib *inboxes) departed(c *Conn) {
	if ib.strikes.max == 0 || c.proto != wire.ProtoV1 || !brokenDown(c.end.Load()) || c.inbox == nil ||
		c.sent.Load() == 0 {
		return // the inbox of one that did not break down may be about to be opened
	}
	ib.carrier().spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), inboxTime)
		defer cancel()
		if err := ib.judge(ctx, c); err != nil {
			ib.catcher.broken(c, err)
		}
	})
}

// brokenDown reports whether a connection may have ended because of what it was given. One that
// was not heard of any more has not: it says nothing about its peer.
func brokenDown(why *CloseError) bool {
	switch why.Cause {
	case CauseLost, CauseProtocol:
		return true
	case CauseClient:
		return why.Code != CloseNormal && why.Code != CloseAway && why.Code != CloseNone &&
			why.Code != CloseSlow
	}
	return false
}

// judge sets the first message aside that was written to the connection and that is not
// acknowledged, if there have been enough before it.
func (ib *inboxes) judge(ctx context.Context, c *Conn) error {
	f, reader := c.inbox, ib.reader(c)
	f.mu.Lock()
	told, first := broker.Position{Epoch: f.last.Epoch, Offset: f.told}, f.first
	f.mu.Unlock()
	at, err := ib.carrier().cursor(ctx, f.stream, reader)
	if err != nil || first == 0 || at.Epoch != told.Epoch || at.Offset >= told.Offset {
		return err
	}
	// What is in front of the first was not given: there is a newer message of its key, for example.
	after := max(at.Offset, first-1)
	page, err := ib.carrier().read(ctx, f.stream, broker.Query{After: after, Before: told.Offset + 1})
	if err != nil {
		return err
	}
	for i := range page.Publications {
		p := &page.Publications[i]
		if c.leftOut(&p.Target) {
			continue
		}
		ended := c.opened.Add(time.Duration(c.over.Load()))
		if !c.wrote(p.Position.Offset) ||
			!ib.strikes.add(cursorName{f.stream, reader}, p.Position, c.opened, ended) {
			return nil
		}
		return ib.setAside(ctx, c, p)
	}
	return nil
}

// wrote reports whether a message of its inbox was written to the connection, which has ended. It
// knows of the first that was given, and of the others if everything was written.
func (c *Conn) wrote(offset uint64) bool {
	n := c.link.Counts()
	f := c.inbox
	f.mu.Lock()
	defer f.mu.Unlock()
	return n.Lost == 0 || offset == f.first && n.Written >= f.firstAt
}

// setAside goes on behind a message.
func (ib *inboxes) setAside(ctx context.Context, c *Conn, p *broker.Publication) error {
	if err := ib.ack(ctx, c, p.Position); err != nil {
		return err
	}
	k := ib.catcher
	k.counters.Add(metrics.SetAside, 1)
	k.notes.Log(ctx, slog.LevelWarn, "inbox",
		"realtime: a message was set aside: connections broke down with it",
		slog.String("user", c.UserID()), slog.String("id", p.Message.ID),
		slog.Uint64("offset", p.Position.Offset))
	if ib.OnSetAside != nil {
		c.duties.run(func() { ib.tellAside(c, p.Message) })
	}
	return nil
}

// tellAside tells the application.
func (ib *inboxes) tellAside(c *Conn, m broker.Message) {
	_ = guard(ib.catcher.notes, ib.catcher.counters, c, func() error {
		ib.OnSetAside(context.WithoutCancel(c.ctx), c.UserID(), Message(m))
		return nil
	})
}
