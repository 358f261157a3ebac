package redis

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/rueidis"
)

const (
	// The time between two attempts to connect grows from firstWait to lastWait.
	firstWait = 50 * time.Millisecond
	lastWait  = 2 * time.Second
	// ping is how long a connection is quiet before it is tested.
	ping = time.Second
)

// clientOptions returns the options of the client library.
func (b *Broker) clientOptions() rueidis.ClientOption {
	o := &b.options
	c := rueidis.ClientOption{
		InitAddress: o.Addrs, Username: o.Username, Password: o.Password, TLSConfig: o.TLS,
		ClientName: "realtime", DisableCache: true, DisableRetry: true, AlwaysPipelining: true,
		Dialer:           net.Dialer{Timeout: o.Timeout, KeepAlive: ping},
		ConnWriteTimeout: o.Timeout, DialCtxFn: b.dial,
		ForceSingleClient: !o.Cluster && o.Sentinel == "",
	}
	if o.Sentinel != "" {
		c.Sentinel = rueidis.SentinelOption{
			MasterSet: o.Sentinel, Username: o.SentinelUsername, Password: o.SentinelPassword,
			TLSConfig: o.TLS, Dialer: c.Dialer, TopologyRefreshInterval: o.Timeout,
		}
	}
	if o.Cluster {
		c.ClusterOption.ShardsRefreshInterval = o.Timeout
	}
	return c
}

// backoff is the time between attempts.
type backoff time.Duration

// wait waits, and longer each time. It reports false if ctx has ended.
func (w *backoff) wait(ctx context.Context) bool {
	*w = min(max(backoff(firstWait), 2**w), backoff(lastWait))
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(*w)):
		return true
	}
}

// connect makes the client. Later the client connects again by itself.
func (b *Broker) connect() {
	var again backoff
	for {
		c, err := rueidis.NewClient(b.clientOptions())
		if err == nil {
			if b.ctx.Err() != nil {
				c.Close()
				return
			}
			b.client = c
			close(b.connected)
			return
		}
		b.cut.failed(err)
		if !again.wait(b.ctx) {
			return
		}
	}
}

// engine returns the client as soon as it is connected for the first time.
func (b *Broker) engine(ctx context.Context) (rueidis.Client, error) {
	select {
	case <-b.connected:
		return b.client, nil
	default:
	}
	select {
	case <-b.connected:
		return b.client, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []string
}

// run runs a script, and once more if the connection was lost: it must not matter whether it runs
// twice.
func (b *Broker) run(ctx context.Context, c call) ([]rueidis.RedisMessage, error) {
	out, err := b.runOnce(ctx, c)
	if err != nil && ctx.Err() == nil {
		if _, answered := errors.AsType[*rueidis.RedisError](err); !answered {
			out, err = b.runOnce(ctx, c)
		}
	}
	return out, err
}

func (b *Broker) runOnce(ctx context.Context, c call) ([]rueidis.RedisMessage, error) {
	results, err := b.runAll(ctx, c)
	if err != nil {
		return nil, err
	}
	return results[0].ToArray()
}

// runAll runs scripts in one round trip, in their order if they go to the same server.
func (b *Broker) runAll(ctx context.Context, calls ...call) ([]rueidis.RedisResult, error) {
	client, err := b.engine(ctx)
	if err != nil {
		return nil, err
	}
	commands := make(rueidis.Commands, len(calls))
	for i, c := range calls {
		commands[i] = client.B().Evalsha().Sha1(c.script.sum).Numkeys(int64(len(c.keys))).
			Key(c.keys...).Arg(b.arguments(c)...).Build()
	}
	var results []rueidis.RedisResult
	if len(commands) == 1 {
		results = []rueidis.RedisResult{client.Do(ctx, commands[0])}
	} else {
		results = client.DoMulti(ctx, commands...)
	}
	for i, c := range calls {
		if answer, ok := rueidis.IsRedisErr(results[i].Error()); ok && answer.IsNoScript() {
			results[i] = client.Do(ctx, client.B().Eval().Script(c.script.text).
				Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(b.arguments(c)...).Build())
		}
	}
	return results, nil
}

// arguments returns those that all scripts have, and then those of a call.
func (b *Broker) arguments(c call) []string {
	return append([]string{b.durable, newGeneration(), b.forget}, c.args...)
}
