package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func closeAttacks() []attack {
	return []attack{
		{name: "close, then data", run: func(w *world) {
			c := w.connect("mallory")
			c.send(masked(0x88, "\x03\xe8") + strings.Repeat(chatFrame("late"), 100))
			require.EqualValues(w.t, 1000, c.closed())
			w.awaitEnd()
			w.connect("mallory").send(chatFrame("again"))
			w.bystander.expect(w.t, "chat mallory: again")
		}},
		{name: "close, TCP kept", run: func(w *world) {
			c := w.connect("mallory")
			c.send(masked(0x88, "\x03\xe8"))
			require.EqualValues(w.t, 1000, c.closed())
			c.requireClosed()
		}},
		{name: "close without reading", slow: true, run: func(w *world) {
			start := time.Now()
			w.connect("mallory").send(masked(0x88, "\x03\xe8"))
			w.awaitEnd()
			require.LessOrEqual(w.t, time.Since(start), 2*time.Second)
		}},
		{name: "ignores our close", slow: true, run: func(w *world) {
			c := w.connect("mallory")
			start := time.Now()
			_, err := w.rt.User("mallory").Disconnect(w.t.Context(), 4000, "")
			require.NoError(w.t, err)
			require.EqualValues(w.t, 4000, <-c.readToEnd())
			_, _ = io.WriteString(c, chatFrame("late"))
			w.awaitEnd()
			require.LessOrEqual(w.t, time.Since(start), 2*time.Second)
			w.bystander.expect(w.t)
		}},
		{name: "10,000 close frames", run: ends(1000, strings.Repeat(masked(0x88, "\x03\xe8"), 10_000))},
		{name: "close code out of range", run: ends(1002, masked(0x88, "\xff\xff"))},
		{name: "half a close code", run: ends(1002, masked(0x88, "\x03"))},
		{name: "long close frame", run: ends(1002, masked(0x88, "\x03\xe8"+xs(124)))},
		{name: "close reason is not UTF-8", run: ends(1007, masked(0x88, "\x03\xe8\xff"))},
		{name: "half-closed TCP", run: func(w *world) {
			c := w.connect("mallory")
			require.NoError(w.t, c.Conn.(*net.TCPConn).CloseWrite())
			c.requireClosed()
			w.awaitEnd()
		}},
		{name: "2,000 that come and close", run: func(w *world) {
			err := together(scaled(2000), func(i int) error {
				res, c, err := w.request(handshake(fmt.Sprint("m", i)))
				if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
					return fmt.Errorf("%v: %w", res, err)
				}
				_, err = io.WriteString(c, masked(0x88, "\x03\xe8"))
				if i%2 == 0 {
					<-c.readToEnd()
				}
				_ = c.Close()
				return err
			})
			require.NoError(w.t, err)
		}},
	}
}

func floodAttacks() []attack {
	ping, pong := masked(0x89, xs(125)), masked(0x8A, xs(125))
	return []attack{
		{name: "2,000,000 empty fragments", run: allocatesLittle(func(w *world) {
			c := w.connect("mallory")
			go func() {
				_, _ = io.WriteString(c, masked(0x01, ""))
				p := strings.Repeat(masked(0x00, ""), 10_000)
				for range 200 {
					_, _ = io.WriteString(c, p)
				}
			}()
			require.EqualValues(w.t, 1008, c.closed())
		})},
		{name: "60,000 one-byte fragments", run: ends(1008, fragments(0x01, xs(60_000), 60_000))},
		{name: "ping flood", run: ends(1008, strings.Repeat(ping, 10_000))},
		{name: "pong flood", run: ends(1008, strings.Repeat(pong, 10_000))},
		{name: "ping flood, not reading", run: floods(ping)},
		{name: "pong flood, not reading", run: floods(pong)},
		{name: "fragment flood, not reading", run: floods(masked(0x01, "") +
			strings.Repeat(masked(0x00, ""), 1024))},
		{name: "flood after an error", run: floods("\x81\x01x")},
		{name: "flood after a close", run: floods(masked(0x88, "\x03\xe8"))},
		{name: "message flood", slow: true, run: messageFlood},
		{name: "messages in a burst", run: func(w *world) {
			const n = 900 // 400 have to wait
			c := w.connect("mallory")
			c.readToEnd()
			var all strings.Builder
			for i := range n {
				all.WriteString(chatFrame(fmt.Sprint(i)))
			}
			c.send(all.String())
			w.bystander.wait(w.t, func() bool { return w.bystander.numbers["mallory"] == n })
			require.Positive(w.t, w.rt.Stats().Throttled)
		}},
		{name: "huge messages", run: func(w *world) {
			const n = 40 // 8 have to wait
			c := w.connect("mallory")
			c.readToEnd()
			for i := range n {
				word := fmt.Sprint(i, " ")
				word += xs(limit - len(chatFrame(word)) + len(masked(0x81, "")))
				c.send(chatFrame(word))
			}
			w.bystander.wait(w.t, func() bool { return w.bystander.numbers["mallory"] == n })
		}},
		{name: "asks and does not read", run: func(w *world) {
			c := w.connect("mallory@cellar")
			go func() {
				for p := strings.Repeat(masked(0x81, "ping"), 1000); ; {
					if _, err := io.WriteString(c, p); err != nil {
						return
					}
				}
			}()
			w.awaitMessages(100)
		}},
		{name: "never reads", run: neverReads},
	}
}

// floods is an attack that repeats bytes and does not read. The server takes less than 10 MiB.
func floods(bytes string) func(*world) {
	return func(w *world) {
		const most = 10 << 20
		c := w.connect("mallory")
		p := []byte(strings.Repeat(bytes, 1+(16<<10)/len(bytes)))
		taken := 0
		for taken < most {
			n, err := c.Write(p)
			if taken += n; err != nil {
				break
			}
		}
		require.Less(w.t, taken, most)
		w.awaitEnd()
	}
}

// messageFlood sends messages for as long as they are taken. They are taken at the allowed rate,
// none is lost, and after ten seconds the connection is ended.
func messageFlood(w *world) {
	start := time.Now()
	c := w.connect("mallory")
	go func() {
		for i := 0; ; i++ {
			if _, err := io.WriteString(c, chatFrame(fmt.Sprint(i))); err != nil {
				return
			}
		}
	}()
	require.Equal(w.t, realtime.CloseRate, c.closed())
	require.NoError(w.t, c.Close()) // no time passes while a write of the client is in progress
	require.InDelta(w.t, 10, time.Since(start).Seconds(), 1)
	w.awaitEnd()
	require.EqualValues(w.t, 1, w.rt.Stats().Ended.Rate)
	require.InDelta(w.t, 2500, w.bystander.expected("mallory"), 100, "500 at once, and ten seconds' worth")
}

// neverReads does not read while messages are sent to the room, until its send queue is full.
func neverReads(w *world) {
	w.connect("mallory")
	word := xs(1 << 10)
	for i := 0; w.rt.Stats().Conns > w.baseline.Conns; i++ {
		require.Less(w.t, i, 20_000, "still open")
		_, err := w.rt.Send(w.t.Context(), realtime.ToRoom("lobby"), note(fmt.Sprint(i, " ", word)))
		require.NoError(w.t, err)
		if i%50 == 49 { // do not outrun the other members
			for _, c := range []*checkedClient{w.bystander, w.speaker} {
				c.wait(w.t, func() bool { return c.numbers["server"] == i+1 })
			}
		}
	}
	ended := w.rt.Stats().Ended
	require.EqualValues(w.t, 1, ended.Slow+ended.Timeout, "a write is stuck, on a slow machine")
}

func slowAttacks() []attack {
	attacks := []attack{
		{name: "half a handshake", run: halfHandshakes},
		{name: "half a message", run: halfMessages},
		{name: "half a body", run: halfBodies},
		{name: "idle between requests", run: func(w *world) {
			start := time.Now()
			res, c, err := w.request("GET /stats HTTP/1.1\r\nHost: site.example\r\n\r\n")
			require.NoError(w.t, err)
			require.Equal(w.t, http.StatusOK, res.StatusCode)
			require.NoError(w.t, c.SetReadDeadline(start.Add(2*time.Minute)))
			c.requireClosed()
			require.LessOrEqual(w.t, time.Since(start), 61*time.Second)
		}},
		{name: "reads nothing", run: func(w *world) {
			start := time.Now()
			w.connect("mallory@cellar").send(masked(0x81, "ping"))
			w.awaitEnd()
			require.InDelta(w.t, 10, time.Since(start).Seconds(), 1, "a write is stuck")
			require.EqualValues(w.t, 1, w.rt.Stats().Ended.Timeout)
		}},
		{name: "reads little", run: func(w *world) {
			c := w.connect("mallory")
			go func() {
				for p := make([]byte, 1); ; time.Sleep(time.Second) {
					if _, err := c.Read(p); err != nil {
						return
					}
				}
			}()
			w.awaitEnd()
			require.EqualValues(w.t, 1, w.rt.Stats().Ended.Timeout)
		}},
		{name: "answers no ping", run: func(w *world) {
			c := w.connect("mallory")
			start := time.Now()
			require.Equal(w.t, realtime.CloseTimeout, c.closed(), "no pong either")
			require.InDelta(w.t, 35, time.Since(start).Seconds(), 1)
		}},
	}
	for i := range attacks {
		attacks[i].slow = true
	}
	return attacks
}

// drip writes single bytes, with a pause before each, until the connection ends.
func drip(w io.Writer, bytes string, pause time.Duration) {
	for i := range len(bytes) {
		time.Sleep(pause)
		if _, err := io.WriteString(w, bytes[i:i+1]); err != nil {
			return
		}
	}
}

// halfHandshakes sends the start of handshakes and does not complete them.
func halfHandshakes(w *world) {
	start := time.Now()
	shake := handshake("mallory")
	all := []net.Conn{w.mustDial(), w.mustDial()} // the first sends nothing
	go drip(all[1], shake, 100*time.Millisecond)
	for _, begin := range []string{
		"G", shake[:40], shake[:len(shake)-2], "\x16", "PRI * HTTP/2.0\r\n",
	} {
		nc := w.mustDial()
		_, err := io.WriteString(nc, begin)
		require.NoError(w.t, err)
		all = append(all, nc)
	}
	for _, nc := range all {
		_, err := io.Copy(io.Discard, nc)
		require.NoError(w.t, err)
	}
	require.LessOrEqual(w.t, time.Since(start), 6*time.Second)
	require.EqualValues(w.t, 2, w.rt.Stats().Accepted)
}

// halfMessages sends the start of messages and does not complete them. Each has ten seconds,
// however often it continues, and sixteen more because the connection may use TLS.
func halfMessages(w *world) {
	start := time.Now()
	var ends []<-chan realtime.CloseCode
	for _, x := range []struct{ begin, more string }{
		{"\x81", ""},                                      // of a frame header
		{"\x81\xFE\x01", ""},                              // of the length
		{masked(0x81, xs(100))[:7], ""},                   // 1 byte of 100
		{masked(0x81, xs(100))[:7], "x"},                  // and then one every three seconds
		{masked(0x01, "x"), ""},                           // the first of several frames
		{masked(0x89, xs(100))[:50], ""},                  // half a ping
		{masked(0x01, "x") + masked(0x89, xs(9))[:9], ""}, // the same inside a message
	} {
		c := w.connect("mallory")
		ends = append(ends, c.readToEnd())
		go func() {
			_, _ = io.WriteString(c, x.begin)
			drip(c, strings.Repeat(x.more, 50), 3*time.Second)
		}()
	}
	pinging := w.connect("mallory")
	ends = append(ends, pinging.readToEnd())
	go func() {
		_, _ = io.WriteString(pinging, masked(0x01, "x"))
		for {
			time.Sleep(2 * time.Second)
			if _, err := io.WriteString(pinging, masked(0x00, "x")+masked(0x89, "alive")); err != nil {
				return
			}
		}
	}()
	for _, end := range ends {
		require.EqualValues(w.t, 1008, <-end)
	}
	require.InDelta(w.t, 26, time.Since(start).Seconds(), 1)
}

// halfBodies announces request bodies and does not send them, or sends them slowly.
func halfBodies(w *world) {
	start := time.Now()
	const head, length = " HTTP/1.1\r\nHost: site.example\r\n", "Content-Length: 100\r\n\r\n"
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	shake := strings.TrimSuffix(handshake("mallory", "Origin: http://evil.example"), "\r\n")
	var all []net.Conn
	for _, request := range []string{
		"POST /connections/x/join" + head + length,
		"POST /connections/x/join" + head + chunked,
		"POST /connections/x/leave" + head + length,
		"POST /shut/connections/x/join" + head + length,
		"GET /rooms/lobby/users" + head + length,
		"GET /stats" + head + chunked,
		"GET /nowhere" + head + length,
		shake + length,
		shake + chunked,
	} {
		for _, body := range []string{"", "1\r\n1\r\n" + strings.Repeat("1\r\n \r\n", 30)} {
			nc := w.mustDial()
			go func() {
				_, _ = io.WriteString(nc, request)
				drip(nc, body, time.Second)
			}()
			all = append(all, nc)
		}
	}
	for _, nc := range all {
		_, err := io.Copy(io.Discard, nc)
		require.NoError(w.t, err)
	}
	require.LessOrEqual(w.t, time.Since(start), 10*time.Second)
}
