// Package serve is what the servers of the benchmark have in common: a listener on
// loopback, one line on standard output that says where, and an end with standard input.
//
// # The contract
//
// A client opens /ws?room=R&user=U and is in room R from then on. With direct=1 it can also
// be written to by name. In the plain dialect a text frame goes, as it is, to everybody in
// the room of its sender, the sender too; a frame that begins with "@name " goes to that
// user alone, or to nobody if there is none. A server may wrap what it delivers.
//
// With BENCH_DEFLATE=1 in its environment a server compresses what it sends to clients that
// offer permessage-deflate, in the way that its documentation recommends for broadcasts.
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

// Deflate reports whether the server is to compress.
func Deflate() bool { return os.Getenv(DeflateEnv) != "" }

// Hello is the line that a server writes when it listens.
type Hello struct {
	Addr     string            `json:"addr"`
	Dialect  string            `json:"dialect"`
	Versions map[string]string `json:"versions"`
}

// Run serves h under /ws until standard input ends, and does not return before: the
// process that started a server cannot leave it behind, however it ends itself. modules are
// the paths of the modules whose versions are worth telling.
func Run(dialect string, h http.Handler, modules ...string) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
	hello := Hello{Addr: l.Addr().String(), Dialect: dialect, Versions: versions(modules)}
	if err := json.NewEncoder(os.Stdout).Encode(hello); err != nil {
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := profile(os.Getenv("CPUPROFILE"))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, srv.Serve(l))
	os.Exit(1)
}

// profile writes a profile of the processor's time to a file until stop, for
// go tool pprof. Without a path it does nothing.
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

// versions looks the modules up in what the linker has noted.
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

// version of a module that is replaced by a directory is that of the checkout.
func version(m *debug.Module) string {
	if m.Replace != nil {
		m = m.Replace
	}
	return cmp.Or(strings.Trim(m.Version, "()"), "devel")
}
