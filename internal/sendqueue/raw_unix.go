//go:build unix && !realtime_portable

package sendqueue

import "syscall"

// socketWrite returns the system call that writes to a socket without blocking.
func socketWrite() func(fd uintptr, p []byte) (int, error) {
	return func(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
}
