//go:build !unix

package inbound

import "errors"

func sysRead(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func sysPeek(uintptr) bool { return true }
