package admission

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// hosts are the names under which the server may be asked for. A page can be made to take
// the server for its own site: its author has the name of his site resolve to the server's
// address, and to the browser page and server are then of one origin (DNS rebinding). What
// gives it away is the Host header.
type Hosts struct {
	allowed []string // lower case; "*.example.com" is kept as ".example.com"
	proxies *Proxies
}

func NewHosts(list []string, ps *Proxies) Hosts {
	h := Hosts{proxies: ps}
	for _, entry := range list {
		name := strings.ToLower(entry)
		rest := strings.TrimPrefix(name, "*.")
		if rest == "" || rest != hostname(rest) || strings.ContainsAny(rest, "*/@ ") {
			panic(fmt.Sprintf("realtime: Options.AllowedHosts: %q is not a name such as "+
				`"app.example.com" or "*.example.com", without a port`, entry))
		}
		h.allowed = append(h.allowed, strings.TrimPrefix(name, "*"))
	}
	return h
}

// check returns the host that is refused, and false; or true.
//
// Without a list all names will do, except where only programs of the same machine can
// connect: there it is the names of the machine itself. A proxy on the same machine asks for
// other names; handshake says that the request is for the endpoint, where the proxy's own
// headers tell it from a browser, because no page can add headers to a handshake.
func (h *Hosts) Check(r *http.Request, handshake bool) (refused string, ok bool) {
	name := hostname(r.Host)
	switch {
	case len(h.allowed) > 0:
		return name, slices.ContainsFunc(h.allowed, func(a string) bool {
			return a == name || strings.HasPrefix(a, ".") && strings.HasSuffix(name, a)
		})
	case !listensToItself(r) || isLoopback(name) || h.proxies.believes(Peer(r)):
		return "", true
	}
	return name, handshake && forwarded(r.Header)
}

// hostname is the host without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// isLoopback reports whether a name always means the machine itself, RFC 6761 section 6.3.
func isLoopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback()
	}
	name = strings.TrimSuffix(name, ".")
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// listensToItself reports whether the request came to an address of the machine itself.
func listensToItself(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return local != nil && local.IP.IsLoopback()
}

func forwarded(h http.Header) bool {
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via"} {
		if h.Get(name) != "" {
			return true
		}
	}
	return false
}
