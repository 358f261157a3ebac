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

// listenPipes is a way to a bed for sockets without a buffer.
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

// slowReaders are clients that read a kilobyte a second, and for each of which 180 KB wait.
func (b *bed) slowReaders(n int) {
	b.t.Helper()
	b.t.Cleanup(func() { time.Sleep(5 * time.Minute) }) // until all is read
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

// What an ended connection holds of a message is on its way to be freed, as what waits for it is:
// nobody else is ended for it.
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
		require.NoError(t, reader.conn.Context().Err(), "it reads as fast as it gets")
		require.Less(t, b.Stats().Ended.Slow, uint64(8), "no more than needed")
	})
}

// readAfterAWhile takes what has come, with pauses.
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

// Who was given something just now has had no time to read it, and is not ended in place of those
// that are slow.
func TestRecentReceiversAreSpared(t *testing.T) {
	o := memoryOptions(4 << 20)
	o.Authenticate, o.MaxConns = realtime.InsecureQueryUser, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		dial := b.listenPipes()
		for i := range 100 {
			go readAfterAWhile(dial(fmt.Sprint("far", i)), 60*time.Millisecond)
		}
		b.slowReaders(26)
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

// A client to which nothing is written yet, because OnConnect takes its time, is not slow.
func TestConnectionsInOnConnectAreSpared(t *testing.T) {
	o := memoryOptions(4 << 20)
	o.MaxConns = -1
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
		b.slowReaders(26)
		<-done
		require.Positive(t, b.Stats().Ended.Slow)
		require.NoError(t, late.err)
		require.Len(t, late.got(), 21)
	})
}

// Who was answered just now, because others were ended who do not read, has had no time to read it.
func TestRecentlyAnsweredAreSpared(t *testing.T) {
	o := memoryOptions(8 << 20) // 2 MiB for answers
	o.Authenticate, o.MaxConns = realtime.InsecureQueryUser, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		b.fillRoom("hall", 1000)
		b.fillRoom("lobby", 900)
		dial := b.listenPipes()
		for i := range 100 {
			transport, far := realtime.Pipe(realtime.V1)
			c := b.attach(transport, far, realtime.Identity{UserID: fmt.Sprint("mallory", i)})
			require.NoError(t, c.err)
			for range 2 { // one is on the wire
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

// What is read while a handler runs counts until the handler has taken it, or its connection ends,
// however long the handler takes; and those that hold the most of it are ended.
func TestBacklogCountsInTheBudget(t *testing.T) {
	o := memoryOptions(1 << 20)
	var release chan struct{}
	o.OnMessage = func(_ context.Context, c *realtime.Conn, _ realtime.Inbound) error {
		if c.UserID() != "quick" {
			<-release
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		release = make(chan struct{}) // one of the bubble's
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
