package realtime

import (
	"errors"

	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/wire"
)

// errTarget says that a message is for nobody, or for two kinds of receivers at once.
var errTarget = errors.New("want one of room, user, conn, or all: true")

// errToken says that there is none.
var errToken = errors.New("no token")

// errSession says that nothing is left of the session, or it is somebody else's.
var errSession = errors.New("realtime: no such session, or too late")

// errCommand says that there is no such command.
var errCommand = errors.New("unknown type")

// requester does what clients of realtime.v1 ask for.
type requester struct {
	m        *Manager
	commands *dispatcher
	receipts *dedup.Cache
}

func newRequester(d *dispatcher) *requester {
	return &requester{
		m: d.m, commands: d, receipts: dedup.New(&d.m.counters.Queues.Budget, d.m.wheel),
	}
}

func (d *requester) mayJoin(c *Conn, room string) bool {
	return d.commands.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id})
}

// targetOf returns the target of a message.
func targetOf(r *wire.Request) (to Target, err error) {
	named := 0
	for _, kind := range []struct {
		member, name string
		valid        func(string) error
		to           func(...string) Target
	}{
		{"room", r.Room, ValidName, ToRoom},
		{"user", r.User, names.CheckUser, ToUser},
		{"conn", r.Conn, ValidName, ToConn},
	} {
		if kind.name == "" {
			continue
		}
		if err := kind.valid(kind.name); err != nil {
			return Target{}, about(kind.member, err)
		}
		to = kind.to(kind.name)
		named++
	}
	if r.All {
		to = ToAll()
		named++
	}
	if named != 1 {
		return Target{}, errTarget
	}
	return to, nil
}

// applicationError is an error of code of the application, whose words are for the log.
type applicationError struct{ error }

func (e *applicationError) Unwrap() error { return e.error }
