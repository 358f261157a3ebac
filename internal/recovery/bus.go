package recovery

import (
	"context"

	"github.com/realtime-go/realtime/broker"
)

// IsBus reports whether several processes share the broker.
func (k *Broker) IsBus() bool {
	_, ok := k.broker.(broker.Bus)
	return ok
}

// Listen begins to listen to a subject. The broker must be a Bus.
func (k *Broker) Listen(ctx context.Context, subject string) error {
	if err := k.wait(ctx); err != nil {
		return err
	}
	return k.broker.(broker.Bus).Listen(ctx, subject)
}

// Unlisten ends a Listen. It does not wait for the broker.
func (k *Broker) Unlisten(subject string) {
	k.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
		defer cancel()
		if k.wait(ctx) == nil {
			_ = k.broker.(broker.Bus).Unlisten(ctx, subject)
		}
	})
}

// Send sends data to the other processes that listen to a subject. The broker must be a Bus.
func (k *Broker) Send(ctx context.Context, data []byte, subjects ...string) (receivers int, err error) {
	if err := k.wait(ctx); err != nil {
		return 0, err
	}
	return k.broker.(broker.Bus).Send(ctx, data, subjects...)
}
