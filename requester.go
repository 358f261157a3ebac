package realtime

import (
	"context"
	"errors"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// roomKeeper is what requests need of the index.
type roomKeeper interface {
	join(ctx context.Context, c *Conn, e *entry) error
	goBack(ctx context.Context, c *Conn, e *entry) error
	history(ctx context.Context, room string, q broker.Query) (broker.Page, error)
	ack(ctx context.Context, c *Conn, at broker.Position) error
	part(c *Conn, room string, answered func()) (left bool, told int)
	inspect(room string, see func(l *listing))
}

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
	*dispatcher
	rooms       roomKeeper
	revocations *admission.Revocations
	renew       func(c *Conn, token string) error
	resume      func(c *Conn, token string, may roomCheck) (rooms []string, err error)

	receipts  *dedup.Cache
	replies   *sendqueue.Replies
	onCall    Handler
	announced bool // who comes and goes in rooms
	maxBytes  int  // of an answer
}

func (d *requester) mayJoin(c *Conn, room string) bool {
	return d.allowed(c, Action{Kind: ActionJoin, Room: room, Conn: c.id})
}

// roomCheck decides whether a connection may be in a room that its client had asked for.
type roomCheck func(c *Conn, room string) bool

// targetOf returns the target of a message.
func targetOf(r *wire.Request) (to Target, err error) {
	named := 0
	for _, kind := range []struct {
		member, name string
		valid        func(string) error
		to           func(...string) Target
	}{
		{"room", r.Room, ValidName, ToRoom},
		{"user", r.User, validUser, ToUser},
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
