//go:build !linux || realtime_portable

package engine

import "syscall"

func limitKernelBuffer(syscall.RawConn) {}
