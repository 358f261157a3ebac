package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// listenPipes serves a Manager over connections without a buffer, and returns a function that
// connects.
func (b *bed) listenPipes() (dial func(user string) net.Conn) {
	f, served := pipes(), make(chan error, 1)
	server := realtime.NewServer("", b.Manager)
	go func() { served <- server.Serve(f) }()
	b.t.Cleanup(func() {
		_ = server.Close()
		<-served
		f.settle()
	})
	return func(user string) net.Conn {
		nc, err := f.dial(b.t.Context(), "", "")
		require.NoError(b.t, err)
		b.t.Cleanup(func() { _ = nc.Close() })
		_, err = io.WriteString(nc, handshake(user))
		require.NoError(b.t, err)
		p := make([]byte, 4<<10)
		n, err := nc.Read(p)
		require.NoError(b.t, err)
		require.Contains(b.t, string(p[:n]), http.StatusText(http.StatusSwitchingProtocols))
		return nc
	}
}

// slowReaders connects clients that read a kilobyte a second, each with 180 KB in its send queue.
func (b *bed) slowReaders(n int) {
	b.t.Helper()
	b.t.Cleanup(func() { time.Sleep(5 * time.Minute) }) // until everything is read
	all := make([]*client, n)
	for i := range all {
		all[i] = b.stalled(fmt.Sprint("slow", i))
		require.NoError(b.t, all[i].err)
	}
	for i, c := range all {
		b.fillQueue(realtime.ToUser(fmt.Sprint("slow", i)), 650, 100)
		c.pace(200 * time.Millisecond)
	}
	synctest.Wait()
}

// The incomplete message of an ended connection is about to be freed, so no other connection is
// ended in place of it.
func TestIncompleteMessagesOfEndedConnections(t *testing.T) {
	o := memoryOptions(1 << 20)
	o.Authenticate = realtime.InsecureQueryUser
	bubble(t, o, func(t *testing.T, b *bed) {
		dial := b.listenPipes()
		reader := b.stalled("reader")
		for range 35 {
			b.news(realtime.ToUser("reader"), strings.Repeat("x", 10_000))
		}
		reader.pace(100 * time.Millisecond)
		for i := 0; b.Stats().MemoryBytes < 1<<20/8*7; i++ {
			nc := dial(fmt.Sprint("mallory", i))
			_, err := io.WriteString(nc, masked(0x81, xs(60_000))[:59_000])
			require.NoError(t, err)
			synctest.Wait()
		}
		for range 30 {
			b.news(realtime.ToUser("reader"), strings.Repeat("x", 10_000))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		require.Positive(t, b.Stats().Ended.Slow)
		require.NoError(t, reader.conn.Context().Err(), "it reads at the rate of the messages")
		require.Less(t, b.Stats().Ended.Slow, uint64(8), "no more than needed")
	})
}

// readAfterAWhile reads, with pauses.
func readAfterAWhile(nc net.Conn, pause time.Duration) {
	for err := error(nil); err == nil || errors.Is(err, os.ErrDeadlineExceeded); {
		time.Sleep(pause)
		_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err = io.Copy(io.Discard, nc)
		if err == nil {
			return
		}
	}
}

// A connection whose messages were queued just now is not ended in place of slow ones.
func TestRecentReceiversAreSpared(t *testing.T) {
	o := memoryOptions(4 << 20)
	o.Authenticate, o.Limits.Conns = realtime.InsecureQueryUser, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		dial := b.listenPipes()
		for i := range 100 {
			go readAfterAWhile(dial(fmt.Sprint("far", i)), 60*time.Millisecond)
		}
		b.slowReaders(32)
		for i := range 100 {
			b.news(realtime.ToUser(fmt.Sprint("far", i)), strings.Repeat("x", 500))
			time.Sleep(10 * time.Millisecond)
		}
		require.Positive(t, b.Stats().Ended.Slow)
		for i := range 100 {
			require.Len(t, b.connsOf(fmt.Sprint("far", i)), 1)
		}
	})
}

// A connection to which nothing is written yet, because OnConnect takes long, is not slow.
func TestConnectionsInOnConnectAreSpared(t *testing.T) {
	o := memoryOptions(4 << 20)
	o.Limits.Conns = -1
	var b *bed
	o.OnConnect = func(_ context.Context, c *realtime.Conn) error {
		if c.UserID() == "late" {
			for range 20 {
				b.news(realtime.ToConn(c.ID()), strings.Repeat("x", 500))
			}
			time.Sleep(2 * time.Second)
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, bb *bed) {
		b = bb
		var late *client
		done := make(chan struct{})
		go func() {
			late = b.dial("late")
			close(done)
		}()
		synctest.Wait()
		b.slowReaders(32) // beyond the mark also after each has read what its pipe holds
		<-done
		require.Positive(t, b.Stats().Ended.Slow)
		require.NoError(t, late.err)
		require.Len(t, late.got(), 21)
	})
}

// Connections that wait for answers receive them after others, which do not read, were ended. They
// are not ended themselves.
func TestRecentlyAnsweredAreSpared(t *testing.T) {
	o := memoryOptions(8 << 20) // 2 MiB for answers
	o.Authenticate, o.Limits.Conns, o.Show = realtime.InsecureQueryUser, -1, realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		b.fillRoom("hall", 1000, realtime.V1)
		b.fillRoom("lobby", 900, realtime.V1)
		dial := b.listenPipes()
		for i := range 100 {
			transport, far := realtime.Pipe(realtime.V1)
			c := b.attach(transport, far, realtime.Identity{UserID: fmt.Sprint("mallory", i)})
			require.NoError(t, c.err)
			for range 2 { // one is being written
				require.NoError(t, c.Write([]byte(`{"type":"presence","id":1,"room":"lobby"}`)))
			}
			if i%10 == 0 {
				nc := dial(fmt.Sprint("far", i, "&protocol=realtime.v1"))
				_, err := io.WriteString(nc, masked(0x81, `{"type":"presence","id":1,"room":"hall"}`))
				require.NoError(t, err)
				go readAfterAWhile(nc, 150*time.Millisecond)
			}
		}
		time.Sleep(10 * time.Second)
		require.Positive(t, b.Stats().Ended.Slow)
		for i := 0; i < 100; i += 10 {
			require.Len(t, b.connsOf(fmt.Sprint("far", i)), 1)
		}
	})
}

// Messages that are read while a handler runs count in the memory budget until the handler takes
// them or the connection ends. The connections with most of them are ended.
func TestBacklogCountsInTheBudget(t *testing.T) {
	o := memoryOptions(1 << 20)
	var release chan struct{}
	o.OnMessage = func(_ context.Context, c *realtime.Conn, _ realtime.Inbound) (any, error) {
		if c.UserID() != "quick" {
			<-release
		}
		return nil, nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		release = make(chan struct{}) // a channel of the bubble
		chat := `{"content":"` + strings.Repeat("x", 40_000) + `","target":"all"}`
		open := func(user string, chats int) *client {
			c := b.open(user)
			go func() {
				for range chats {
					_ = c.Write([]byte(chat))
				}
			}()
			return c
		}
		quick, slow := open("quick", 5), open("slow", 4)
		time.Sleep(6 * time.Second) // then another goroutine reads
		synctest.Wait()
		require.InDelta(t, 3*40_000, b.Stats().MemoryBytes, 2000)
		for i := range 5 {
			open(fmt.Sprint("mallory", i), 7)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Positive(t, b.Stats().Ended.Slow)
		require.Less(t, b.Stats().MemoryBytes, int64(1<<20)/8*7)
		require.NoError(t, quick.conn.Context().Err())
		require.NoError(t, slow.conn.Context().Err())
		close(release)
		time.Sleep(time.Minute)
		require.Zero(t, b.Stats().MemoryBytes)
	})
}
