//go:build !realtime_portable

package realtime

const (
	// PlainIsDirect is how many connections of one plain socket are written to directly.
	PlainIsDirect = 1
)
