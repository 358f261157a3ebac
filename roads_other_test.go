//go:build !linux || realtime_portable

package realtime

// quietIsParked says that a quiet connection has neither a goroutine nor a decoder.
const quietIsParked = false
