//go:build !linux || realtime_portable

package engine

import "syscall"

// KeepLittle is for Linux only.
func KeepLittle(syscall.RawConn) {}
