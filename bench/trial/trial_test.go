package trial

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A wrong name would make an empty report.
func TestCheckList(t *testing.T) {
	known := []string{"direct", "idle"}
	for _, list := range []string{"", "direct", "idle,direct"} {
		require.NoError(t, CheckList(list, known), list)
	}
	for _, list := range []string{"nosuch", "direct,nosuch", "direct, idle", ","} {
		require.ErrorContains(t, CheckList(list, known), "want some of direct, idle", list)
	}
}
