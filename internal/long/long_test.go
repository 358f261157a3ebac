package long

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForms(t *testing.T) {
	for form, want := range map[string]int{"": 1, "long": 2, "proof": 3} {
		t.Setenv(Env, form)
		require.Equal(t, want, Of(1, 2, 3))
		require.Equal(t, form != "", Enabled())
		require.True(t, t.Run("only "+form, func(t *testing.T) {
			defer func() { require.Equal(t, form == "", t.Skipped()) }()
			Only(t, "it is a test")
		}))
	}
	t.Setenv(Env, "1")
	require.Panics(t, func() { Of(1, 2, 3) })
}
