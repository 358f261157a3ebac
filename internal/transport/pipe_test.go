package transport

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// A parked pipe wakes its reader for a message and for its end, whether they come before or after
// Park.
func TestParkedPipeIsWoken(t *testing.T) {
	for name, input := range map[string]func(*PipeClient) error{
		"message": func(c *PipeClient) error { return c.Write([]byte("hello")) },
		"end": func(c *PipeClient) error {
			c.Drop()
			return nil
		},
	} {
		for _, before := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				near, far := Pipe()
				c := &echoConn{woken: make(chan struct{}, 1)}
				near.Attach(nil, c, 1<<20)
				if before {
					require.NoError(t, input(far))
				}
				require.True(t, near.Park())
				if !before {
					require.Empty(t, c.woken)
					require.NoError(t, input(far))
				}
				require.Len(t, c.woken, 1)
				op, p, err := near.Next(nil, false)
				if name == "end" {
					require.Equal(t, disconnect.CauseLost, err.(*disconnect.CloseError).Cause)
					return
				}
				require.NoError(t, err)
				require.Equal(t, sendqueue.OpText, op)
				require.Equal(t, "hello", string(p))
			})
		}
	}
}
