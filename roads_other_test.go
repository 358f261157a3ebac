//go:build !unix || realtime_portable

package realtime

const (
	// PlainIsDirect is how many connections of one plain socket are written to directly.
	PlainIsDirect = 0
	// quietIsParked says that a quiet connection has neither a goroutine nor a decoder.
	quietIsParked = false
)
