package session

import "github.com/realtime-go/realtime/internal/wire"

// Bounds of the commands that are read while a handler runs.
const (
	maxBacklog      = 64
	maxBacklogBytes = 256 << 10
)

// backlog are the commands that were read while a handler ran, in order.
type backlog struct {
	waiting []wire.Command
	bytes   int
}

// fits reports whether there is space for cmd. An empty backlog has space for any size.
func (b *backlog) fits(cmd *wire.Command) bool {
	return len(b.waiting) < maxBacklog && (b.bytes == 0 || b.bytes+cmd.Size() <= maxBacklogBytes)
}

func (b *backlog) add(cmd wire.Command) {
	cmd.Keep()
	b.waiting = append(b.waiting, cmd)
	b.bytes += cmd.Size()
}

// next takes the oldest command.
func (b *backlog) next() (cmd wire.Command, ok bool) {
	if len(b.waiting) == 0 {
		*b = backlog{}
		return wire.Command{}, false
	}
	cmd = b.waiting[0]
	b.waiting = b.waiting[1:]
	b.bytes -= cmd.Size()
	return cmd, true
}
