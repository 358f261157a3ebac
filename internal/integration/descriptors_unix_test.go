//go:build unix

package integration_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostFiles returns the limit of descriptors of the process, 1<<20 at most.
func mostFiles(t *testing.T) int {
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	return int(min(files.Cur, 1<<20))
}
