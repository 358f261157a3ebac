//go:build !linux || realtime_portable

package inbound

import (
	"errors"
	"syscall"
)

// canPoll is false: a quiet connection keeps the goroutine that reads it.
const canPoll = false

type pollCalls struct{}

var sysPoll pollCalls

type poller struct{}

func newPoller(pollCalls) (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) watch(syscall.RawConn, uint64, bool) error { return errors.ErrUnsupported }
func (*poller) run(func(uint64))                          {}
func (*poller) close()                                    {}
