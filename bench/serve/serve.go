// Package serve is shared by the servers of the benchmark: a listener on the loopback interface,
// one line on standard output with its address, and an exit at the end of standard input.
//
// # The contract
//
// A client that opens /ws?room=R&user=U is in room R. With direct=1 it can also be addressed by
// name. In the plain dialect the server passes a text frame, unchanged, to all members of the
// sender's room, including the sender. It passes a frame that begins with "@name " to that user
// alone, or to nobody if the user is not connected. A server may wrap what it delivers.
//
// With BENCH_DEFLATE=1 in its environment, a server compresses messages to clients that offer
// permessage-deflate, in the way that the documentation of its library recommends for broadcasts.
//
// With BENCH_TLS=1 in its environment, a server in Go listens with TLS and a new certificate.
package serve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"
)

// DeflateEnv is the environment variable that asks a server to compress.
const DeflateEnv = "BENCH_DEFLATE"

// RedisEnv is the environment variable with the address of the Redis that nodes share.
const RedisEnv = "BENCH_REDIS"

// What a room of a node keeps: so many messages for so long.
const (
	HistorySize = 100
	HistoryTime = 5 * time.Minute
)

// Deflate reports whether the server must compress.
func Deflate() bool { return os.Getenv(DeflateEnv) != "" }

// Hello is the line that a server prints when it listens.
type Hello struct {
	Addr     string            `json:"addr"`
	Dialect  string            `json:"dialect"`
	Versions map[string]string `json:"versions"`
	// Certificate is the certificate of the server in PEM. It is empty without TLS.
	Certificate string `json:"certificate,omitempty"`
}

// Run serves h under /ws until standard input ends, and does not return before that. So a server
// ends with the process that started it, however that process ends. modules are the paths of the
// modules whose versions Hello contains.
func Run(dialect string, h http.Handler, modules ...string) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
	hello := Hello{Addr: l.Addr().String(), Dialect: dialect, Versions: versions(modules)}
	if l, hello.Certificate, err = secure(l); err != nil {
		fmt.Fprintln(os.Stderr, "TLS:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello); err != nil {
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopCPU := profile(os.Getenv("CPUPROFILE"))
	stopMutex := profileMutexes(os.Getenv("MUTEXPROFILE"))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stopCPU()
		stopMutex()
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, srv.Serve(l))
	os.Exit(1)
}

// profile writes a CPU profile for go tool pprof to a file until stop is called. Without a path it
// does nothing.
func profile(path string) (stop func()) {
	if path == "" {
		return func() {}
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
	return pprof.StopCPUProfile
}

// profileMutexes records each wait for a mutex. stop writes the profile to a file. Without a path
// it does nothing.
func profileMutexes(path string) (stop func()) {
	if path == "" {
		return func() {}
	}
	runtime.SetMutexProfileFraction(1)
	return func() {
		f, err := os.Create(path)
		if err == nil {
			err = pprof.Lookup("mutex").WriteTo(f, 0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
			os.Exit(1)
		}
	}
}

// versions returns the versions of modules from the build information.
func versions(modules []string) map[string]string {
	vs := map[string]string{"go": strings.TrimPrefix(runtime.Version(), "go")}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return vs
	}
	for _, want := range modules {
		for _, dep := range info.Deps {
			if dep.Path == want {
				vs[want] = version(dep)
			}
		}
	}
	return vs
}

// version returns the version of a module. For a module that is replaced by a directory, it is the
// version of the checkout.
func version(m *debug.Module) string {
	if m.Replace != nil {
		m = m.Replace
	}
	return cmp.Or(strings.Trim(m.Version, "()"), "devel")
}
