//go:build unix

package inbound

import "syscall"

// sysPeek reports whether there is something to read, or the end.
func sysPeek(fd uintptr) bool {
	var p [1]byte
	_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil
}

func sysRead(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }
