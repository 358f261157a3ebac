package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// A child is a process that publishes until it is killed, and writes to its output what was
// acknowledged.
const (
	childEnv = "BOLT_TEST_PUBLISH" // path of the file
	roundEnv = "BOLT_TEST_ROUND"   // part of the ids
	tasksEnv = "BOLT_TEST_TASK"    // another task, see childTasks
)

// childStreams returns the streams to which a child publishes.
func childStreams() []string { return []string{"room/a", "room/b\x00", "user/alice"} }

func childMain(path string) {
	if task := childTasks()[os.Getenv(tasksEnv)]; task != nil {
		task(path)
		return
	}
	b, err := bolt.Open(path, nil)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				stream := childStreams()[(worker+i)%3]
				acknowledge(b, stream, fmt.Sprintf("%s.%d.%d", os.Getenv(roundEnv), worker, i))
			}
		})
	}
	all.Wait()
}

// acknowledge publishes, reports the acknowledgement, and acknowledges the publication to a reader.
func acknowledge(b *bolt.Broker, stream, id string) bool {
	out, err := one(b.Publish(context.Background(), numbered(stream, id)))
	if err != nil {
		fmt.Printf("error %v\n", err)
		return false
	}
	at := out.Position
	// One write is one line, even if the process is killed.
	_, _ = io.WriteString(os.Stdout, fmt.Sprintf("ack %q %s %s %d\n", stream, id, at.Epoch, at.Offset))
	if stream == "user/alice" && b.Ack(context.Background(), stream, "phone", at) == nil {
		_, _ = io.WriteString(os.Stdout, fmt.Sprintf("cursor %q %s %s %d\n", stream, id, at.Epoch, at.Offset))
	}
	return true
}

// numbered returns a publication with its id as content.
func numbered(stream, id string) broker.Publication {
	return broker.Publication{
		Stream: stream, Target: broker.Target{Rooms: []string{"lobby"}}, Keep: broker.Retention{Messages: 1 << 30},
		Message: broker.Message{
			Type: "chat", Sender: "alice", ID: id,
			Binary: []byte(id + strings.Repeat("x", len(id)*7%300)),
		},
	}
}

// ledger records the output of a child.
type ledger struct {
	mu      sync.Mutex
	acked   map[string]map[string]uint64 // stream: id: offset
	epochs  map[string]string
	cursors map[string]uint64
	errors  int
	lines   int
}

func newLedger() *ledger {
	return &ledger{acked: map[string]map[string]uint64{}, epochs: map[string]string{}, cursors: map[string]uint64{}}
}

// note records a line. An incomplete last line is ignored.
func (l *ledger) note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var what, stream, id, epoch string
	var offset uint64
	if strings.HasPrefix(line, "error") {
		l.errors++
		return
	}
	if n, _ := fmt.Sscanf(line, "%s %q %s %s %d", &what, &stream, &id, &epoch, &offset); n != 5 {
		return
	}
	l.lines++
	if what == "cursor" {
		l.cursors[stream] = max(l.cursors[stream], offset)
		return
	}
	if l.acked[stream] == nil {
		l.acked[stream] = map[string]uint64{}
	}
	l.acked[stream][id] = offset
	l.epochs[stream] = epoch
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// require compares a file with the recorded output: everything acknowledged is in its place, and
// every publication occurs once, complete, and without gaps between offsets.
func (l *ledger) require(t *testing.T, b *bolt.Broker) {
	t.Helper()
	for stream, acked := range l.acked {
		var before uint64
		seen := map[string]uint64{}
		for q := (broker.Query{Limit: 1000, Bytes: 1 << 20}); ; q.After = before {
			page, err := b.Read(t.Context(), stream, q)
			require.NoError(t, err)
			require.Equal(t, l.epochs[stream], page.Top.Epoch, "the epoch stays the same")
			require.Zero(t, page.Floor)
			for _, p := range page.Publications {
				require.Equal(t, before, p.Prev)
				before = p.Position.Offset
				require.Zero(t, seen[p.Message.ID], "%s occurs twice", p.Message.ID)
				seen[p.Message.ID] = before
				require.Equal(t, numbered(stream, p.Message.ID).Message.Binary, p.Message.Binary)
			}
			if !page.More {
				require.Equal(t, before, page.Top.Offset)
				break
			}
		}
		for id, offset := range acked {
			require.Equal(t, offset, seen[id], "%s of %q", id, stream)
		}
	}
	for stream, offset := range l.cursors {
		at, err := b.Cursor(t.Context(), stream, "phone")
		require.NoError(t, err)
		require.GreaterOrEqual(t, at.Offset, offset, "the cursor")
	}
}

// child starts a process of this test, optionally under another program. wait waits for its end.
func (l *ledger) child(t *testing.T, path string, env []string, under ...string) (cmd *exec.Cmd, wait func() error) {
	t.Helper()
	args := append(under, os.Args[0])
	cmd = exec.Command(args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), childEnv+"="+path), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			l.note(line)
		}
	}()
	return cmd, func() error {
		<-read
		return cmd.Wait()
	}
}
