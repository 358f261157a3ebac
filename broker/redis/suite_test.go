package redis_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/redis"
	"github.com/realtime-go/realtime/internal/long"
)

func TestConformance(t *testing.T) {
	s := start(t)
	var n atomic.Int64
	brokertest.Run(t, func(t *testing.T) broker.Broker {
		o := s.options()
		o.Prefix = fmt.Sprint("test", n.Add(1))
		b, err := redis.New(o)
		require.NoError(t, err)
		return b
	})
}

// engine is a server, and a proxy for each broker that uses it.
type engine struct {
	s *server

	mu      sync.Mutex
	state   func(p *proxy) // sets the state of a new proxy
	proxies map[broker.Bus]*proxy
}

// broker returns another broker.
func (e *engine) broker(t *testing.T) broker.Bus {
	p := newProxy(t, e.s.addr())
	o := e.s.options()
	o.Addrs, o.Timeout = []string{p.addr()}, 3*time.Second
	b, err := redis.New(o)
	require.NoError(t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxies[b] = p
	e.state(p)
	return b
}

func (e *engine) of(b broker.Bus) *proxy {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.proxies[b]
}

// each does something with the proxies of all brokers, also of those that come later.
func (e *engine) each(do func(p *proxy)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = do
	for _, p := range e.proxies {
		do(p)
	}
}

// refuse is an outage in which there is no server.
func (e *engine) refuse(down bool) { e.each(func(p *proxy) { p.cut(down) }) }

// hang is an outage in which connections stay, and nothing is answered.
func (e *engine) hang(down bool) {
	if down {
		e.each((*proxy).stop)
	} else {
		e.each((*proxy).resume)
	}
}

func (e *engine) mute(b broker.Bus, mute bool) {
	e.of(b).silence(mute)
	if !mute {
		e.of(b).cut(false)
	}
}

// TestShared tests brokers that share a server in real time.
func TestShared(t *testing.T) {
	for name, down := range map[string]func(*engine, bool){
		"refuses": (*engine).refuse, "hangs": (*engine).hang,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "hangs" {
				long.Only(t, "the timeouts add up")
			}
			brokertest.RunShared(t, func(t *testing.T, test func(*testing.T, brokertest.Shared)) {
				t.Parallel()
				e := &engine{s: start(t), state: (*proxy).resume, proxies: map[broker.Bus]*proxy{}}
				test(t, brokertest.Shared{
					Broker: e.broker,
					Cut:    func(b broker.Bus, cut bool) { e.of(b).cut(cut) },
					Mute:   e.mute,
					Down:   func(is bool) { down(e, is) },
					Forget: func() { e.s.kill(); e.s.begin() },
				})
			})
		})
	}
}
