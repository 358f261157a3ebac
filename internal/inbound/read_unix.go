//go:build unix && !realtime_portable

package inbound

import "syscall"

// sysPeek reports whether there is input, or the end of input.
func sysPeek(fd uintptr) bool {
	var p [1]byte
	_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil
}

// socketRead returns the system call that reads from a socket without blocking.
func socketRead() func(fd uintptr, p []byte) (int, error) {
	return func(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }
}
