package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Everything that a killed process had acknowledged is kept, in order, once.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	l := newLedger()
	for round := range kills() {
		before := l.count()
		cmd, wait := l.child(t, filepath.Join(dir, "streams.db"), []string{fmt.Sprint(roundEnv, "=", round)})
		for end := time.Now().Add(20 * time.Second); l.count() == before; runtime.Gosched() {
			require.True(t, time.Now().Before(end), "the child does not publish")
		}
		time.Sleep(rand.N(60 * time.Millisecond)) // at a random moment
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, wait())
		b := open(t, dir, nil)
		l.require(t, b)
		require.NoError(t, b.Close(t.Context()))
	}
	t.Logf("%d kills, %d acknowledgements", kills(), l.count())
}
