//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package bolt

import "os"

// abandon closes a file after bbolt has failed while it held it.
func abandon(f *os.File) error { return f.Close() }
