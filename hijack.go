package realtime

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// The headers of the handshake, in the form that net/http keeps them in, so that it need
// not convert them each time.
const (
	headerVersion = "Sec-Websocket-Version"
	headerKey     = "Sec-Websocket-Key"
	headerAccept  = "Sec-Websocket-Accept"
	extensions    = "Sec-Websocket-Extensions"
	subprotocols  = "Sec-Websocket-Protocol"
)

// hijack takes the connection over from the server, with what the server has read of it
// already: frames that came in one packet with the handshake.
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

// accepted returns the answer to a handshake with this key, RFC 6455 section 4.2.2, and with
// the headers that middleware has set. It is not written through the ResponseWriter:
// middleware that compresses or collects would keep it back until the handler returns.
func accepted(h http.Header, key, agreed, subprotocol string) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	hash := sha1.Sum(append(append(make([]byte, 0, 64), strings.TrimSpace(key)...), guid...))
	buf := make([]byte, 0, 192) // that of a browser, without extensions
	buf = append(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"...)
	buf = append(base64.StdEncoding.AppendEncode(append(buf, "Sec-WebSocket-Accept: "...), hash[:]), "\r\n"...)
	if agreed != "" {
		buf = append(buf, "Sec-WebSocket-Extensions: "+agreed+"\r\n"...)
	}
	if subprotocol != "" {
		delete(h, subprotocols)
		buf = append(buf, "Sec-WebSocket-Protocol: "+subprotocol+"\r\n"...)
	}
	for _, name := range [...]string{"Connection", "Upgrade", headerAccept, extensions} {
		delete(h, name)
	}
	if len(h) > 0 {
		rest := bytes.NewBuffer(buf)
		_ = h.Write(rest) // a buffer takes everything
		buf = rest.Bytes()
	}
	return append(buf, "\r\n"...)
}

// asksForV1 reports whether a client speaks realtime.v1, and whether it says so in the header
// that wants an answer.
func asksForV1(r *http.Request) (byHeader, ok bool) {
	byHeader = hasToken(r.Header, subprotocols, V1)
	return byHeader, byHeader ||
		strings.Contains(r.URL.RawQuery, "protocol") && r.URL.Query().Get("protocol") == V1
}

func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
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

// rawConn returns the socket below a connection that is a socket and nothing else. One
// that embeds a socket has these methods too, but its own Read and Write would be passed
// by.
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
