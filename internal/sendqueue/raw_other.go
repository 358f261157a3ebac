//go:build !unix || realtime_portable

package sendqueue

// socketWrite returns nil: there is no such system call, so every link has a goroutine while there
// is something to write.
func socketWrite() func(fd uintptr, p []byte) (int, error) { return nil }
