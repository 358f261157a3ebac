package transport

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/realtime-go/realtime/internal/wire"
)

// The headers of the handshake in the canonical form of net/http, which saves the conversion.
const (
	headerVersion = "Sec-Websocket-Version"
	headerKey     = "Sec-Websocket-Key"
	headerAccept  = "Sec-Websocket-Accept"
	extensions    = "Sec-Websocket-Extensions"
	subprotocols  = "Sec-Websocket-Protocol"
)

const (
	hintUpgrade = "this is a WebSocket endpoint; a proxy in between must speak HTTP/1.1 " +
		"and pass on the headers Upgrade and Connection"
	hintHijack = "the ResponseWriter %T has neither Hijack nor Unwrap: " +
		"mount the endpoint outside the middleware that wraps it"
)

// hijack takes the connection over from the HTTP server, with the input that the server has read
// already: frames that arrived in one packet with the handshake.
func hijack(w http.ResponseWriter) (net.Conn, []byte, error) {
	nc, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := brw.Reader.Peek(brw.Reader.Buffered())
	if err == nil {
		err = nc.SetDeadline(time.Time{}) // the server's is not ours
	}
	if err != nil {
		return nil, nil, errors.Join(err, nc.Close())
	}
	return nc, bytes.Clone(early), nil
}

// accepted returns the answer to a handshake with this key, see RFC 6455 section 4.2.2, with the
// headers that middleware has set. With v1 it selects that subprotocol. It is not written through
// the ResponseWriter, because middleware that compresses or collects would hold it back until the
// handler returns.
func accepted(h http.Header, key string, v1 bool) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	hash := sha1.Sum(append(append(make([]byte, 0, 64), strings.TrimSpace(key)...), guid...))
	buf := make([]byte, 0, 192) // that of a browser
	buf = append(buf, statusLine+"Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	buf = append(base64.StdEncoding.AppendEncode(append(buf, "Sec-WebSocket-Accept: "...), hash[:]), "\r\n"...)
	if v1 {
		buf = append(buf, "Sec-WebSocket-Protocol: "+wire.V1+"\r\n"...)
	}
	clearAnswer(h, v1)
	return appendHeader(buf, h)
}

const statusLine = "HTTP/1.1 101 Switching Protocols\r\n"

// appendHeader appends the headers and the end of an answer.
func appendHeader(buf []byte, h http.Header) []byte {
	if len(h) > 0 {
		rest := bytes.NewBuffer(buf)
		_ = h.Write(rest) // a buffer takes everything
		buf = rest.Bytes()
	}
	return append(buf, "\r\n"...)
}

// clearAnswer deletes the headers of an answer that middleware may have set. With v1 the
// subprotocol is one of them.
func clearAnswer(h http.Header, v1 bool) {
	for _, name := range [...]string{"Connection", "Upgrade", headerAccept, extensions} {
		delete(h, name)
	}
	if v1 {
		delete(h, subprotocols)
	}
}

// asksForV1 reports whether a client speaks realtime.v1, and whether it says so in the header that
// needs an answer.
func asksForV1(r *http.Request) (byHeader, ok bool) {
	byHeader = HasToken(r.Header, subprotocols, wire.V1)
	return byHeader, byHeader ||
		strings.Contains(r.URL.RawQuery, "protocol") && r.URL.Query().Get("protocol") == wire.V1
}

// HasToken reports whether a header with a list of tokens contains one, whatever its case.
func HasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// CheckHandshake returns the HTTP status and the hint with which a request is refused that cannot
// become a WebSocket, and sets the headers of that answer; or it returns zero.
func CheckHandshake(w http.ResponseWriter, r *http.Request) (status int, hint string) {
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1 || !HasToken(r.Header, "Upgrade", "websocket") ||
		!HasToken(r.Header, "Connection", "upgrade"):
		if r.ProtoMajor == 1 { // these headers are an error in HTTP/2
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
		}
		return http.StatusUpgradeRequired, hintUpgrade
	case r.Header.Get(headerVersion) != "13":
		w.Header().Set(headerVersion, "13")
		return http.StatusBadRequest, "WebSocket version must be 13"
	case !validKey(r.Header.Values(headerKey)):
		return http.StatusBadRequest, "invalid Sec-WebSocket-Key"
	case !canHijack(w):
		return http.StatusInternalServerError, fmt.Sprintf(hintHijack, w)
	}
	return 0, ""
}

// validKey reports whether there is one key, of 16 bytes, see RFC 6455 section 4.2.1.
func validKey(keys []string) bool {
	if len(keys) != 1 {
		return false
	}
	key := strings.TrimSpace(keys[0])
	if len(key) != 24 {
		return false
	}
	var p [18]byte
	n, err := base64.StdEncoding.Decode(p[:], []byte(key))
	return err == nil && n == 16
}

// canHijack reports whether the connection can be taken over.
func canHijack(w http.ResponseWriter) bool {
	for {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// rawConn returns the socket of a connection that is a plain socket, or nil. A type that embeds a
// socket has its methods too, but its own Read and Write would be passed by.
func rawConn(nc net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, err = nc.SyscallConn()
	case *net.UnixConn:
		raw, err = nc.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}
