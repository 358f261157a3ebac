package realtime

// What is read ahead while a handler runs.
const (
	maxBacklog      = 64
	maxBacklogBytes = 256 << 10
)

// backlog is what was read while a handler ran, in order.
type backlog struct {
	waiting []command
	bytes   int
}

// fits reports whether there is room for cmd. A backlog without bytes has room for any size.
func (b *backlog) fits(cmd command) bool {
	return len(b.waiting) < maxBacklog && (b.bytes == 0 || b.bytes+cmd.size() <= maxBacklogBytes)
}

func (b *backlog) add(cmd command) {
	cmd.keep()
	b.waiting = append(b.waiting, cmd)
	b.bytes += cmd.size()
}

// next takes the first.
func (b *backlog) next() (cmd command, ok bool) {
	if len(b.waiting) == 0 {
		*b = backlog{}
		return command{}, false
	}
	cmd = b.waiting[0]
	b.waiting = b.waiting[1:]
	b.bytes -= cmd.size()
	return cmd, true
}
