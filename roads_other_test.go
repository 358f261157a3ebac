//go:build !unix || realtime_portable

package realtime

const (
	// PlainIsDirect is how many connections of one plain socket are written to directly.
	PlainIsDirect = 0
)
