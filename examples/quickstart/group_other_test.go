//go:build !unix

package main

import "os/exec"

// killGroup does nothing: there are no process groups.
func killGroup(*exec.Cmd) {}
