package realtime_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// street is a way to a bed for sockets without a buffer.
func (b *bed) street() (dial func(user string) net.Conn) {
	f, served := pipes(), make(chan error, 1)
	server := realtime.NewServer("", b.Manager)
	go func() { served <- server.Serve(f) }()
	b.t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return func(user string) net.Conn {
		nc, err := f.dial(b.t.Context(), "", "")
		require.NoError(b.t, err)
		b.t.Cleanup(func() { _ = nc.Close() })
		_, err = io.WriteString(nc, strings.Replace(handshake(user), "Host: arena", "Host: site.example", 1))
		require.NoError(b.t, err)
		p := make([]byte, 4<<10)
		n, err := nc.Read(p)
		require.NoError(b.t, err)
		require.Contains(b.t, string(p[:n]), http.StatusText(http.StatusSwitchingProtocols))
		return nc
	}
}

// What an ended connection holds of a message is on its way to be freed, as what waits for it is:
// nobody else is ended for it.
func TestHalfMessagesOfTheEnded(t *testing.T) {
	o := glut(1 << 20)
	o.Authenticate = realtime.InsecureQueryUser
	bubble(t, o, func(t *testing.T, b *bed) {
		dial := b.street()
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
