//go:build !unix

package engine

import "errors"

func sysWrite(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// rawRoad says that every link has a goroutine while there is something to write.
const rawRoad = false
