package realtime

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rooms of a connection stay right when their number crosses fewRooms, up and down.
func TestManyRoomsOfAConnection(t *testing.T) {
	m := New(nil)
	defer func() { _ = m.Close() }()
	transport, far := Pipe()
	defer far.Drop()
	c, err := m.Register(t.Context(), transport, Identity{})
	require.NoError(t, err)
	var want []string
	for range 2 {
		for i := range 3 * fewRooms {
			name := fmt.Sprint("room", i)
			joined, err := m.Join(t.Context(), c.ID(), name)
			require.NoError(t, err)
			require.Equal(t, !slices.Contains(want, name), joined)
			if joined {
				want = append(want, name)
			}
			require.Equal(t, want, c.Rooms())
		}
		for i := 0; i < 3*fewRooms; i += 2 {
			name := fmt.Sprint("room", i)
			left, err := m.Leave(t.Context(), c.ID(), name)
			require.NoError(t, err)
			require.True(t, left)
			want = slices.DeleteFunc(want, func(s string) bool { return s == name })
			require.Equal(t, want, c.Rooms())
		}
	}
	require.Equal(t, len(want), m.Stats().Rooms)
}
