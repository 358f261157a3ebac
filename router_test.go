package realtime_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestRouterRefusesMistakes(t *testing.T) {
	handle := func(context.Context, *realtime.Conn, int) (int, error) { return 0, nil }
	on := func(context.Context, *realtime.Conn, realtime.Inbound, int) error { return nil }
	r := &realtime.Router{}
	realtime.Handle(r, "twice", handle)
	realtime.On(r, "twice", on)
	const twice = `realtime: two handlers for "twice"`
	require.PanicsWithValue(t, twice, func() { realtime.Handle(r, "twice", handle) })
	require.PanicsWithValue(t, twice, func() { realtime.On(r, "twice", on) })
	for _, name := range []string{"", " x", strings.Repeat("x", 65)} {
		require.Panics(t, func() { realtime.Handle(r, name, handle) })
		require.Panics(t, func() { realtime.On(r, name, on) })
	}
	require.Panics(t, func() { realtime.On(r, "welcome", on) })
	require.Panics(t, func() { realtime.On[int](r, "nil", nil) })
	require.Panics(t, func() { realtime.Handle[int, int](r, "nil", nil) })
}
