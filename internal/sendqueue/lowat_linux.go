//go:build !realtime_portable

package sendqueue

import "syscall"

// notSentLowat is TCP_NOTSENT_LOWAT, which package syscall lacks. It bounds the bytes that the
// kernel accepts beyond the window of the peer; then the socket counts as full.
const (
	notSentLowat      = 25
	notSentLowatBytes = 64 << 10
)

// KeepLittle makes the kernel buffer little for a peer that does not read. The rest stays in the
// queue, where it is counted and subject to the policy. The window can still grow as the path needs
// it. Errors are ignored, because this is an optimisation.
func KeepLittle(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notSentLowat, notSentLowatBytes)
	})
}
