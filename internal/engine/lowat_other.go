//go:build !linux

package engine

import "syscall"

func limitKernelBuffer(syscall.RawConn) {}
