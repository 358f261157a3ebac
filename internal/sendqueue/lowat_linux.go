//go:build !realtime_portable

package sendqueue

import "syscall"

// notSentLowat is TCP_NOTSENT_LOWAT, which package syscall does not have: how many bytes
// that the peer has no window for the kernel takes before the socket counts as full.
const (
	notSentLowat      = 25
	notSentLowatBytes = 64 << 10
)

// KeepLittle makes the kernel keep little for a peer that does not read: what
// waits is to wait in the queue, where it is counted and subject to the policy. The
// window may still grow as the path needs it. Errors do not matter: it is an
// optimisation.
func KeepLittle(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notSentLowat, notSentLowatBytes)
	})
}
