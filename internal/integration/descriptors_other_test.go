//go:build !unix

package integration_test

import "testing"

// mostFiles returns 1<<20: no limit is known.
func mostFiles(*testing.T) int { return 1 << 20 }
