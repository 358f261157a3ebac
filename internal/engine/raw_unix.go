//go:build unix

package engine

import "syscall"

func sysWrite(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

// rawRoad says that sockets can be written to without blocking.
const rawRoad = true
