package names

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/wire"
)

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"a", "", " a", "all", "a\x00", "\u202e", strings.Repeat("ü", 128)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if Check(s) != nil {
			return
		}
		require.True(t, utf8.ValidString(s))
		require.True(t, len(s) > 0 && len(s) <= 255)
		var got string
		require.NoError(t, json.Unmarshal(wire.AppendString(nil, s), &got))
		require.Equal(t, s, got, "the wire preserves a name")
	})
}
