package admission

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Hosts is the list of host names that requests may be for. It prevents DNS rebinding: the
// author of a page lets the name of their own site resolve to the address of this server, and
// the browser then takes page and server for one origin. The Host header still has the name of
// the foreign site.
type Hosts struct {
	allowed []string // lower case; "*.example.com" is kept as ".example.com"
	proxies *Proxies
}

// NewHosts returns the list of these names. It panics if an entry is not a name such as
// "app.example.com" or "*.example.com".
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

// Check reports whether the request is for an allowed host, and returns the host if it is not.
//
// Without a list every name is allowed, unless only programs of the same machine can connect:
// then the names of the machine itself are. A proxy on the same machine passes other names on.
// For a handshake the headers of the proxy tell it from a browser, because a page cannot add
// headers to a handshake.
func (h *Hosts) Check(r *http.Request, handshake bool) (refused string, ok bool) {
	name := hostname(r.Host)
	switch {
	case len(h.allowed) > 0:
		return name, slices.ContainsFunc(h.allowed, func(a string) bool {
			return a == name || strings.HasPrefix(a, ".") && strings.HasSuffix(name, a)
		})
	case !listensToItself(r) || isLoopback(name) || h.proxies.Trusts(Peer(r)):
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

// isLoopback reports whether a name always means the machine itself, see RFC 6761 section 6.3.
func isLoopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback()
	}
	name = strings.TrimSuffix(name, ".")
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// listensToItself reports whether the request came in at a loopback address.
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
