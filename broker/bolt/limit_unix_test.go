//go:build unix

package bolt_test

import (
	"os/signal"
	"syscall"
)

const canLimitFiles = true

// limitFiles limits files of this process to fileLimit, until lift is called.
func limitFiles() (lift func(), err error) {
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return nil, err
	}
	limited := was
	limited.Cur = fileLimit
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was) },
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited)
}
