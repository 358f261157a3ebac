//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the signals of the terminal from the process, so that it outlives the nodes.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
