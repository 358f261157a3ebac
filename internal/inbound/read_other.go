//go:build !unix || realtime_portable

package inbound

func sysPeek(uintptr) bool { return true }

// socketRead returns nil: without a system call that does not block, connections are read with
// their own Read.
func socketRead() func(fd uintptr, p []byte) (int, error) { return nil }
