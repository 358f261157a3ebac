//go:build !linux || realtime_portable

package sendqueue

import "syscall"

// KeepLittle is for Linux only.
func KeepLittle(syscall.RawConn) {}
