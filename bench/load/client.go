//go:build linux

package load

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// client is one connection of the generator.
type client struct {
	fd      int
	tls     *records // nil without TLS
	name    string
	group   *group
	greets  int    // frames to receive before it is open, with the answer to the upgrade
	carry   []byte // the beginning of a frame that has not arrived completely
	out     []byte // bytes that the socket has not accepted
	stalled bool
	closed  bool
}

// group is a set of receivers: the members of a room, or one user.
type group struct {
	senders []*client
	room    string // one of the two names is empty
	to      string // the user
	size    int    // deliveries per message
	turn    int    // index of the next sender
	sent    int    // number of messages
	got     int    // number of deliveries
}

// dial opens a non-blocking socket to the server, with TLS if there is a configuration for it.
func dial(addr netip.AddrPort, secure *tls.Config, rcvbuf int) (fd int, rs *records, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("socket: %w", err)
	}
	if rcvbuf > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	to := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	err = unix.Connect(fd, to)
	if err == nil && secure != nil {
		rs, err = handshake(fd, secure)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, nil, fmt.Errorf("connect: %w", err)
	}
	return fd, rs, nil
}

// upgrade returns the request for a WebSocket. The key is the example of RFC 6455. deflate offers
// compression.
func upgrade(addr netip.AddrPort, target string, deflate bool) string {
	offer := ""
	if deflate {
		offer = "\r\nSec-WebSocket-Extensions: " + terms
	}
	return "GET " + target + " HTTP/1.1\r\nHost: " + addr.String() +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13" +
		"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" + offer + "\r\n\r\n"
}

// cutUpgrade removes the answer to the upgrade from buf. ok is false if the answer is incomplete.
func cutUpgrade(buf []byte) (rest []byte, ok bool, err error) {
	head, rest, ok := bytes.Cut(buf, []byte("\r\n\r\n"))
	if !ok {
		return buf, false, nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return nil, false, fmt.Errorf("no upgrade: %.80q", head)
	}
	return rest, true, nil
}
