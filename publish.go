package realtime

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/cluster"
)

// publisher gives messages to the broker if some of their targets keep them, and otherwise to the
// broadcaster.
type publisher struct{ m *Manager }

// publish gives a message to its receivers. If some of its targets keep it, all of it goes to the
// broker, in one part for each stream and one for the rest, and the broker passes the parts to
// sink.Deliver. If none keeps it, it is delivered directly, or through a broker that serves other
// processes too. After an error, the broker may have taken some parts.
func (p *publisher) publish(ctx context.Context, pub *broker.Publication) (Result, error) {
	if !p.m.opts.keeps() || pub.Message.Ephemeral || pub.Message.Latest != "" {
		return p.publishLive(ctx, pub)
	}
	parts, err := p.splitTarget(ctx, pub.Target)
	if err != nil {
		return Result{}, err
	}
	if len(parts) == 0 {
		return p.publishLive(ctx, pub)
	}
	cloneFromCaller(pub)
	var who *audience
	if len(parts) > 1 {
		pub.Union = true
		if pub.Message.ID == "" { // clients need it to recognise the parts of a union
			pub.Message.ID = uuid.NewString()
		}
		if who = new(audience); !p.m.node.Alone() { // a part may come back without its origin
			who = p.m.broadcast.audiences.of(p.m.fetcher.UnionKey(pub))
		}
	}
	return p.publishParts(ctx, pub, parts, who)
}

// publishLive delivers a message that is not kept: first to the receivers of this process, then to
// the other nodes. So a node that is cut off from the others still serves its own clients.
func (p *publisher) publishLive(
	ctx context.Context, pub *broker.Publication,
) (res Result, err error) {
	if pub.Message.Latest != "" {
		if res, err = p.m.broadcast.setLatest(pub); err != nil {
			return Result{}, err
		}
	} else {
		res = p.m.broadcast.deliver(pub)
	}
	res.Nodes = p.sendAway(ctx, pub)
	return res, nil
}

// sendAway gives a message that is not kept to the other nodes. It returns how many take it, or a
// negative number if that is not known.
func (p *publisher) sendAway(ctx context.Context, pub *broker.Publication) (nodes int) {
	if p.m.node.Alone() {
		return 0
	}
	data, err := pub.AppendBinary(nil)
	if err != nil { // a time that JSON cannot represent
		return -1
	}
	return p.m.node.Send(ctx, &pub.Target, cluster.KindMessage, data)
}

// history returns a page of the messages that a room keeps.
func (p *publisher) history(ctx context.Context, room string, q broker.Query) (broker.Page, error) {
	policy := p.m.policyOf(room)
	if !policy.Keeps() {
		return broker.Page{}, ErrNoHistory
	}
	return p.m.broker.Read(ctx, broker.RoomStream(room), q)
}

// cloneFromCaller copies the content and the exceptions, which the caller of Send may change after
// Send has returned.
func cloneFromCaller(pub *broker.Publication) {
	m := &pub.Message
	m.Content, m.Binary = bytes.Clone(m.Content), bytes.Clone(m.Binary)
	t := &pub.Target
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
}

// maxInboxes is how many inboxes take a message in one call of the broker, which holds their
// streams meanwhile.
const maxInboxes = 256

// partResult is the result of one part of a message.
type partResult struct {
	user   string      // whose inbox takes the part
	origin localResult // the broker may still use it after it has returned an error
	missed bool        // the part was kept for a user who has no connection
}

// splitTarget splits a message into the part that no stream keeps, the rooms that keep it, and the
// inboxes, in this order. It returns nothing if no stream keeps any of it.
//
// The part without a stream comes first, and is delivered while the streams of the other parts are
// held. So no other message comes between the parts, and all members of a room, with or without
// history, get messages in one order.
func (p *publisher) splitTarget(
	ctx context.Context, t broker.Target,
) (parts []broker.Publication, err error) {
	var rooms, users []string // those that keep the message
	for _, name := range sorted(t.Rooms) {
		if policy := p.m.policyOf(name); policy.Keeps() {
			rooms = append(rooms, name)
			parts = append(parts, broker.Publication{
				Stream: broker.RoomStream(name), Target: broker.Target{Rooms: []string{name}},
				Keep: policy.Keep,
			})
		}
	}
	for _, id := range sorted(t.Users) {
		keeps, err := p.keepsFor(ctx, id, &t)
		if err != nil {
			return nil, err
		}
		if keeps {
			users = append(users, id)
			parts = append(parts, broker.Publication{
				Stream: broker.InboxStream(id), Target: broker.Target{Users: []string{id}},
				Keep: p.m.inboxes.policy.Keep,
			})
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	t.Rooms, t.Users = without(t.Rooms, rooms), without(t.Users, users)
	if noReceivers(&t) {
		return parts, nil
	}
	return slices.Insert(parts, 0, broker.Publication{Target: cloneTarget(t)}), nil
}

// without returns names without the excluded ones, which are some of them. It does not change
// names.
func without(names, excluded []string) []string {
	switch len(excluded) {
	case 0:
		return names
	case len(names):
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(excluded, name)
	})
}

// keepsFor reports whether the inbox of a user keeps a message.
func (p *publisher) keepsFor(ctx context.Context, id string, t *broker.Target) (bool, error) {
	ib := p.m.inboxes
	if !ib.policy.Keeps() || slices.Contains(t.ExceptUsers, id) {
		return false, nil
	}
	if u := p.m.users.lockLive(id); u != nil {
		p.m.users.unlock(u)
		return true, nil
	}
	return ib.exists(ctx, id)
}

// publishParts publishes the parts of a message, and returns the sum of their results. who is nil
// for a single part.
func (p *publisher) publishParts(
	ctx context.Context, pub *broker.Publication, parts []broker.Publication, who *audience,
) (total Result, err error) {
	size := pub.Size()
	for i := range parts { // before any part is published
		if keep := &parts[i].Keep; keep.Bytes > 0 && size > keep.Bytes {
			return total, fmt.Errorf("%w to be kept: %d bytes, limit %d",
				ErrTooLarge, size, keep.Bytes)
		}
	}
	results := p.prepareParts(pub, parts, who)
	live := parts[0] // the broker owns parts
	for done := 0; done < len(parts) && err == nil; {
		n := atOnce(results[done:])
		var published []broker.Published
		published, err = p.m.broker.Publish(ctx, parts[done:done+n]...)
		for i := range published {
			results[done+i].addTo(&total, &published[i])
		}
		if len(parts) == 1 && err == nil {
			total.Position = Position(published[0].Position)
		}
		done += n
	}
	if err == nil && live.Stream == "" {
		total.Nodes = p.sendAway(ctx, &live)
	}
	if err == nil && total.Full == len(parts) {
		err = errShare
	}
	total.Offline -= p.tellOffline(ctx, results, &pub.Message)
	return total, err
}

// tellOffline tells the application of the users for whom a message was kept and who have no
// connection. It returns how many have one at another node.
func (p *publisher) tellOffline(ctx context.Context, results []partResult, m *broker.Message) (online int) {
	var missed []string
	for i := range results {
		if results[i].missed {
			missed = append(missed, results[i].user)
		}
	}
	elsewhere := p.m.onlineElsewhere(ctx, missed)
	for _, user := range missed {
		if slices.Contains(elsewhere, user) {
			online++
		} else {
			p.m.inboxes.tellOffline(ctx, user, m)
		}
	}
	return online
}

// prepareParts fills in the fields that the parts of a message have in common, and returns a result
// for each part.
func (p *publisher) prepareParts(
	pub *broker.Publication, parts []broker.Publication, who *audience,
) []partResult {
	results := make([]partResult, len(parts))
	for i := range parts {
		r, part := &results[i], &parts[i]
		r.origin = localResult{audience: who}
		if user, inbox := broker.StreamUser(part.Stream); inbox {
			r.user = user
			part.Shared = pub.Message.From() != broker.Sender{}
		}
		part.Message, part.Union, part.Origin = pub.Message, pub.Union, &r.origin
		if isPrivate(&part.Target) && !isPrivate(&pub.Target) {
			part.Message.Conn = "" // the other parts do not show it either
		}
		part.Target.ExceptConns = pub.Target.ExceptConns
		part.Target.ExceptUsers = pub.Target.ExceptUsers
	}
	return results
}

// atOnce returns how many of the remaining parts are published in the next call of the broker: all
// parts before the inboxes, and up to maxInboxes inboxes. A message has no order between inboxes.
func atOnce(remaining []partResult) int {
	n := 0
	for n < len(remaining) && remaining[n].user == "" {
		n++
	}
	return min(len(remaining), n+maxInboxes)
}

// addTo adds the result of one part to the total.
func (r *partResult) addTo(total *Result, published *broker.Published) {
	total.sum(r.origin.result)
	switch {
	case published.Duplicate:
		total.Duplicate = true
	case published.Full:
		total.Full++
	case published.Position.Epoch != "":
		total.Kept++
		if r.missed = r.user != "" && !r.origin.online; r.missed {
			total.Offline++
		}
	}
}

// localResult is the Origin of a publication, in which its delivery in this process leaves its
// result.
type localResult struct {
	result   Result
	online   bool      // the user whose inbox it is has a connection
	audience *audience // nil if the message has one part
}
