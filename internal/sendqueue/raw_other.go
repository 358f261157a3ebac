//go:build !unix || realtime_portable

package sendqueue

// socketWrite returns nil: without a system call that does not block, each queue starts a goroutine
// whenever it has something to write.
func socketWrite() func(fd uintptr, p []byte) (int, error) { return nil }
