package integration_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// compressing returns Options that compress messages from 512 bytes on.
func compressing() realtime.Options { return realtime.Options{CompressFrom: 512} }

// deflate compresses a message as a client does, RFC 7692 section 7.2.1.
func deflate(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return strings.TrimSuffix(out.String(), "\x00\x00\xff\xff")
}

// inflate decompresses a message as a client does, section 7.2.2.
func inflate(t *testing.T, payload string) string {
	t.Helper()
	r := flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	p, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(p)
}

// lengthy is a word that is long enough to be compressed.
func lengthy(word string) string { return strings.Repeat(word+" ", 400) }

func TestCompressionIsNegotiated(t *testing.T) {
	off, on := newTestServer(t, realtime.Options{CompressFrom: -1}, false), newTestServer(t, compressing(), false)
	meddling := newTestServer(t, realtime.Options{}, false)
	meddling.Server.Close()
	meddle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sec-WebSocket-Extensions", "permessage-deflate")
		meddling.rt.ServeHTTP(w, r)
	}
	meddling.Server = httptest.NewServer(http.HandlerFunc(meddle))
	defer meddling.Server.Close()
	const small = "permessage-deflate; server_max_window_bits=10"
	for name, test := range map[string]struct {
		s           *testServer
		offer, want string
	}{
		"not offered":            {on, "", ""},
		"a browser's":            {on, browserOffer, accepted},
		"bare":                   {on, "permessage-deflate", accepted},
		"a small window":         {on, small, ""},
		"the second choice":      {on, small + ", " + browserOffer, accepted},
		"another extension":      {on, "x-webkit-deflate-frame", ""},
		"off":                    {off, browserOffer, ""},
		"off, with a middleware": {meddling, browserOffer, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.s.offer(t, "alice", test.offer)
			require.Equal(t, test.want, c.extensions)
			test.s.news(t, realtime.ToUser("alice"), lengthy("x"))
			text, compressed := c.next()
			require.Equal(t, `n "`+lengthy("x")+`"`, text)
			require.Equal(t, test.want != "", compressed)
			_, err := c.Write([]byte(masked(0x81, "ping")))
			require.NoError(t, err)
			text, compressed = c.next()
			require.Equal(t, "pong", text)
			require.False(t, compressed)
			require.NoError(t, c.Close())
			require.Eventually(t, func() bool { return test.s.rt.Stats().Conns == 0 },
				5*time.Second, time.Millisecond)
		})
	}
}

// Members with and without compression receive the same messages, short and long, in one order,
// while other connections open and close.
func TestCompressionInAMixedRoom(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		const senders, each = 4, 50
		s := newTestServer(t, compressing(), secure)
		members := []*websocket.Conn{
			s.dialMode(t, "none", websocket.CompressionNoContextTakeover),
			s.dialMode(t, "takeover", websocket.CompressionContextTakeover),
			s.dialMode(t, "plain", websocket.CompressionDisabled),
			s.dialMode(t, "another", websocket.CompressionNoContextTakeover),
		}
		for _, user := range []string{"none", "takeover", "plain", "another"} {
			s.joinUser(t, user, "lobby")
		}
		require.Equal(t, 3, s.rt.Stats().Deflating)
		var work sync.WaitGroup
		for sender := range senders {
			work.Go(func() {
				for i := range each {
					word := fmt.Sprintf("%d-%d", sender, i)
					if i%3 > 0 {
						word = lengthy(word)
					}
					_, _ = s.rt.Send(context.Background(), realtime.ToRoom("lobby"), note(word))
				}
			})
		}
		work.Go(func() {
			for i := range 20 {
				user := fmt.Sprint("guest", i)
				ws := s.dialMode(t, user, websocket.CompressionNoContextTakeover)
				s.joinUser(t, user, "lobby")
				_ = ws.CloseNow()
			}
		})
		for range senders * each {
			want := s.next(t, members[0])
			for _, ws := range members[1:] {
				require.Equal(t, want, s.next(t, ws))
			}
		}
		work.Wait()
	})
}

// Compressed messages of clients are read, also in fragments and up to the limit.
func TestCompressedFromClients(t *testing.T) {
	o := compressing()
	o.Limits.MessageBytes = 8 << 10
	s := newTestServer(t, o, false)
	chat := func(text string) string {
		p, err := json.Marshal(map[string]string{"content": text, "target": "all"})
		require.NoError(t, err)
		return string(p)
	}
	for _, mode := range []websocket.CompressionMode{
		websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover,
	} {
		ws := s.dialMode(t, "alice", mode)
		for range 3 {
			p := []byte(chat(lengthy("hi")))
			require.NoError(t, ws.Write(t.Context(), websocket.MessageText, p))
			require.Equal(t, "alice: "+lengthy("hi"), s.next(t, ws))
		}
		require.NoError(t, ws.Close(1000, ""))
	}
	c := s.offer(t, "bob", browserOffer)
	full := strings.Repeat("x", o.Limits.MessageBytes-len(chat("")))
	for _, text := range []string{"hi", lengthy("hi"), full} {
		p := deflate(t, chat(text))
		parts := masked(0x41, p[:5]) + masked(0x89, "in between") + masked(0x80, p[5:])
		_, err := c.Write([]byte(parts))
		require.NoError(t, err)
		op, _ := readFrame(t, c.br)
		require.Equal(t, byte(0xA), op)
		got, _ := c.next()
		require.Equal(t, "bob: "+text, got)
	}
}

// Invalid compressed data affects only the connection of its sender.
func TestCompressedGarbage(t *testing.T) {
	s := newTestServer(t, compressing(), false)
	bystander := s.dialMode(t, "bystander", websocket.CompressionNoContextTakeover)
	bomb, over := deflate(t, strings.Repeat("x", 10<<20)), deflate(t, strings.Repeat("x", 64<<10+1))
	require.Less(t, len(bomb), 20_000)
	// A final block, RFC 1951 section 3.2.4. Frames follow after the bytes that are read at once.
	final := "\x01\x04\x00\xfb\xffping" + strings.Repeat("x", 4<<10-9)
	forged := strings.Repeat(masked(0x81, `{"content":"forged","target":"bystander"}`), 200)
	for name, test := range map[string]struct {
		offer, bytes string
		code         realtime.CloseCode
	}{
		"blocks without end": {
			browserOffer,
			"\xC1\xFF\x00\x00\x01\x00\x00\x00\x00\x00" + strings.Repeat("\x00\x00\x00\xff\xff", 1000),
			realtime.CloseTooBig,
		},
		"after the final block": {browserOffer, masked(0xC1, final+forged), realtime.CloseProtocol},
		"bomb":                  {browserOffer, masked(0xC1, bomb), realtime.CloseTooBig},
		"one byte too big":      {browserOffer, masked(0xC1, over), realtime.CloseTooBig},
		"not UTF-8":             {browserOffer, masked(0xC1, deflate(t, "\xff")), realtime.CloseText},
		"not deflate":           {browserOffer, masked(0xC1, "\xff\xff\xff"), realtime.CloseProtocol},
		"not negotiated":        {"", masked(0xC1, deflate(t, "ping")), realtime.CloseProtocol},
		"compressed ping":       {browserOffer, masked(0xC9, "x"), realtime.CloseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.offer(t, "mallory", test.offer)
			_, err := c.Write([]byte(test.bytes))
			require.NoError(t, err)
			require.Equal(t, test.code, c.closed())
			s.news(t, realtime.ToUser("bystander"), name)
			require.Equal(t, `n "`+name+`"`, s.next(t, bystander))
		})
	}
}

func TestCompressedOnceForAll(t *testing.T) {
	s := newTestServer(t, compressing(), false)
	plain := s.offer(t, "plain", "")
	s.joinUser(t, "plain", "lobby")
	s.news(t, realtime.ToRoom("lobby"), lengthy("x"))
	_, compressed := plain.next()
	require.False(t, compressed)
	require.Zero(t, s.rt.Stats().Compressed, "no member with compression")

	var members []*frameClient
	for i := range 10 {
		user := fmt.Sprint("u", i)
		members = append(members, s.offer(t, user, browserOffer))
		s.joinUser(t, user, "lobby")
	}
	require.Equal(t, 10, s.rt.Stats().Deflating)
	for range 3 {
		s.news(t, realtime.ToRoom("lobby"), lengthy("x"))
		s.news(t, realtime.ToRoom("lobby"), "short")
	}
	for range 3 {
		for _, c := range append(members, plain) {
			text, compressed := c.next()
			require.Equal(t, `n "`+lengthy("x")+`"`, text)
			require.Equal(t, c != plain, compressed)
			text, compressed = c.next()
			require.Equal(t, `n "short"`, text)
			require.False(t, compressed)
		}
	}
	require.EqualValues(t, 3, s.rt.Stats().Compressed)

	for _, c := range members {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return s.rt.Stats().Deflating == 0 },
		5*time.Second, time.Millisecond)
	s.news(t, realtime.ToRoom("lobby"), lengthy("x"))
	require.EqualValues(t, 3, s.rt.Stats().Compressed, "the last member with compression has left")
}

// Presence and latest values are compressed, too, once for all who are in step.
func TestCompressedState(t *testing.T) {
	o := compressing()
	o.Show = realtime.ShowMembers
	s := newTestServer(t, o, false)
	ctx := t.Context()
	hall, folds := realtime.ToRoom("hall"), []*fold{}
	members := []*websocket.Conn{}
	value := func(key, word string) {
		m := note(word)
		m.Latest = key
		_, err := s.rt.Send(ctx, hall, m)
		require.NoError(t, err)
	}
	for i, mode := range []websocket.CompressionMode{
		websocket.CompressionNoContextTakeover, websocket.CompressionDisabled, websocket.CompressionContextTakeover,
	} {
		ws, _, err := websocket.Dial(ctx, s.URL+fmt.Sprintf("/ws?user_id=user%d", i), &websocket.DialOptions{
			HTTPClient: s.Client(), Subprotocols: []string{realtime.V1}, CompressionMode: mode, CompressionThreshold: 1,
		})
		require.NoError(t, err)
		defer func() { _ = ws.CloseNow() }()
		ws.SetReadLimit(-1)
		state := strings.Repeat("state ", 150)
		require.NoError(t, ws.Write(ctx, websocket.MessageText,
			fmt.Appendf(nil, `{"type":"join","id":1,"room":"hall","presence":true,"state":%q}`, state)))
		members, folds = append(members, ws), append(folds, newFold(t, "hall"))
		value("mode", lengthy(fmt.Sprint("of ", i)))
	}
	deadline, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	read := func(key, content string) {
		for i, ws := range members {
			for f := folds[i]; f.values[key] != fmt.Sprintf("%q", content) || len(f.entries) < len(members); {
				_, p, err := ws.Read(deadline)
				require.NoError(t, err)
				f.add(p)
				require.NoError(t, ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"seen","frames":%d}`, f.frames)))
			}
			folds[i].same(s.rt)
		}
	}
	read("mode", lengthy("of 2")) // nothing of the members is on its way any more
	compressed := s.rt.Stats().Compressed
	value("long", lengthy("x"))
	require.Equal(t, compressed+1, s.rt.Stats().Compressed, "once, before anybody gets it")
	value("end", "short")
	read("end", "short")
	for i := range members {
		require.Equal(t, map[string]string{
			"mode": fmt.Sprintf("%q", lengthy("of 2")), "long": fmt.Sprintf("%q", lengthy("x")), "end": `"short"`,
		}, folds[i].values)
	}
	require.GreaterOrEqual(t, s.rt.Stats().Compressed, uint64(5), "values, and a difference at least")
}

// The threshold applies to the size of the plain message on the wire, without the frame header.
func TestCompressFrom(t *testing.T) {
	const empty = `{"message_type":"n","sender_id":null,"content":"","timestamp":1700000000}`
	s := newTestServer(t, compressing(), false)
	c := s.offer(t, "alice", browserOffer)
	for size, want := range map[int]bool{511: false, 512: true} {
		word := strings.Repeat("x", size-len(empty))
		s.news(t, realtime.ToUser("alice"), word)
		text, compressed := c.next()
		require.Equal(t, `n "`+word+`"`, text)
		require.Equal(t, want, compressed, size)
	}
}
