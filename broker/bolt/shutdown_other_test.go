//go:build !linux

package bolt_test

import (
	"errors"
	"os"
)

func shutDown(*os.File) error { return errors.ErrUnsupported }
