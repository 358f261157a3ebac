package realtime

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func plainOnly() *languages {
	l := &languages{}
	l[protoPlain].Store(1)
	return l
}

// A message costs nothing more as long as nobody wants it compressed.
func TestSqueezeOnlyIfWanted(t *testing.T) {
	m := Message{Content: json.RawMessage(`"` + strings.Repeat("word ", 300) + `"`)}
	var tally tally
	off, on := press{tally: &tally}, press{from: 512, tally: &tally}
	f := plainOnly().encode(&m, spot{})
	tally.deflating.Store(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { off.squeeze(&f) }))
	tally.deflating.Store(0)
	require.Zero(t, testing.AllocsPerRun(100, func() { on.squeeze(&f) }))
	require.Nil(t, f.forms[protoPlain].deflated)
	require.Same(t, f.forms[protoPlain].plain, f.forms[protoPlain].of(true))

	tally.deflating.Store(1)
	on.squeeze(&f)
	require.NotNil(t, f.forms[protoPlain].deflated)
	require.Same(t, f.forms[protoPlain].deflated, f.forms[protoPlain].of(true))
	require.Same(t, f.forms[protoPlain].plain, f.forms[protoPlain].of(false))
}
