//go:build linux

package load

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// suite is the cipher suite that every server must choose.
const suite = tls.TLS_AES_128_GCM_SHA256

// trust returns the configuration of the clients of a server with this certificate, as PEM.
func trust(certificate string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(certificate)) {
		return nil, errors.New("the server has no certificate")
	}
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}, nil
}

// records encrypts and decrypts for one client. Package tls works on bytes in memory after the
// handshake, so that the loop alone reads and writes the socket.
type records struct {
	net.Conn // nil: package tls calls only the methods below
	tls      *tls.Conn
	fd       int    // during the handshake
	in, out  []byte // after the handshake: what package tls has not read, and what it has written
	open     bool   // the handshake is over
}

// handshake opens TLS over a blocking socket.
func handshake(fd int, config *tls.Config) (*records, error) {
	late := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &late); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	r := &records{fd: fd}
	r.tls = tls.Client(r, config)
	if err := r.tls.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if got := r.tls.ConnectionState().CipherSuite; got != suite {
		return nil, fmt.Errorf("TLS with %s", tls.CipherSuiteName(got))
	}
	r.open = true
	return r, nil
}

// decrypt appends to dst, which has the capacity, what is complete in the bytes received so far.
func (r *records) decrypt(dst, received []byte) ([]byte, error) {
	r.in = received
	for {
		n, err := r.tls.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, errNoData) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// encrypt returns the records with data. They are valid until the next call.
func (r *records) encrypt(data []byte) ([]byte, error) {
	r.out = r.out[:0]
	_, err := r.tls.Write(data)
	return r.out, err
}

// Read is for package tls.
func (r *records) Read(b []byte) (int, error) {
	if !r.open {
		return blocking(unix.Read, r.fd, b)
	}
	if len(r.in) == 0 {
		return 0, errNoData
	}
	n := copy(b, r.in)
	r.in = r.in[n:]
	return n, nil
}

// Write is for package tls.
func (r *records) Write(b []byte) (int, error) {
	if !r.open {
		return blocking(unix.Write, r.fd, b)
	}
	r.out = append(r.out, b...)
	return len(b), nil
}

// blocking repeats a system call that a signal interrupts, and returns what package tls expects.
func blocking(call func(int, []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		switch n, err := call(fd, b); {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// SetWriteDeadline is for package tls.
func (*records) SetWriteDeadline(time.Time) error { return nil }

// errNoData is a temporary error, after which package tls can read again.
var errNoData net.Error = noData{}

type noData struct{}

func (noData) Error() string   { return "no data" }
func (noData) Timeout() bool   { return true }
func (noData) Temporary() bool { return true }
