//go:build !unix || realtime_portable

package integration_test

// plainIsDirect is the number of plain connections, out of one, whose socket is written directly.
const plainIsDirect = 0
