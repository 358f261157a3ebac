//go:build unix && !realtime_portable

package inbound

import "syscall"

// sysPeek reports whether there is something to read, or the end.
func sysPeek(fd uintptr) bool {
	var p [1]byte
	_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil
}

// socketRead returns the system call that reads from a socket and never waits.
func socketRead() func(fd uintptr, p []byte) (int, error) {
	return func(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }
}
