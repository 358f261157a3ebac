package leaktest

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLeftovers leaks a goroutine and a descriptor, and finds both.
func TestLeftovers(t *testing.T) {
	files := OpenFiles()
	require.Empty(t, leftovers(files, time.Second))

	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		<-end
	}()
	require.Contains(t, leftovers(files, time.Millisecond), "leaktest.TestLeftovers")
	close(end)
	<-done
	require.Empty(t, leftovers(files, time.Second))

	if files == 0 {
		t.Skip("this system does not tell the number of descriptors")
	}
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.Contains(t, leftovers(files, time.Millisecond), "leaked descriptors")
	require.NoError(t, f.Close())
	require.Empty(t, leftovers(files, time.Second))
}
