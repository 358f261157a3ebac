//go:build !linux || realtime_portable

package sendqueue

import "syscall"

// KeepLittle does nothing: the option exists on Linux only.
func KeepLittle(syscall.RawConn) {}
