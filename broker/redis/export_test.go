package redis

import (
	"context"
	"strings"

	"github.com/realtime-go/realtime/broker"
)

// ForgetDue leaves out the comparisons that Subscribe has asked for.
func (b *Broker) ForgetDue() {
	b.compare.mu.Lock()
	defer b.compare.mu.Unlock()
	b.compare.queues = [2][]due{}
}

// PublishSilently publishes, but the engine loses what it passes on.
func (b *Broker) PublishSilently(ctx context.Context, p broker.Publication) error {
	tasks, err := b.tasks([]broker.Publication{p})
	if err != nil {
		return err
	}
	c := b.publishCall(tasks)
	c.script = newScript(strings.Replace(publishText, "call('SPUBLISH',", "type('SPUBLISH',", 1))
	_, err = b.runOnce(ctx, c)
	return err
}
