package admission

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the servers in front of this one that are believed what they say about a
// request: whom it comes from, and whether it came over TLS.
type Proxies struct {
	trusted []netip.Prefix
	unix    bool // whoever speaks through a Unix socket
}

// newProxies panics if an entry is not an address, with a message that says which.
func NewProxies(list []string) Proxies {
	var ps Proxies
	for _, s := range list {
		if s == "unix" {
			ps.unix = true
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		if addr, no := netip.ParseAddr(s); no == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			panic(fmt.Sprintf("realtime: Options.TrustProxies: %q is not an address such as "+
				`"10.0.0.7" or "10.0.0.0/8", nor "unix"`, s))
		}
		ps.trusted = append(ps.trusted, prefix.Masked())
	}
	return ps
}

// believes reports whether the peer of a request is one of them. The zero address is that
// of a Unix socket.
func (ps *Proxies) believes(peer netip.Addr) bool {
	if !peer.IsValid() {
		return ps.unix
	}
	return slices.ContainsFunc(ps.trusted, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// source returns the address that a request comes from: the peer's or, if that is a
// proxy, the last one in X-Forwarded-For that is not a proxy's. Each proxy appends whom it
// was asked by, so what stands before that is anybody's words. It is the zero address
// behind a Unix socket that is not believed.
func (ps *Proxies) Source(r *http.Request) netip.Addr {
	from, _ := ps.trace(r)
	return from
}

// trace is source, and returns how many proxies have said by whom they were asked.
func (ps *Proxies) trace(r *http.Request) (from netip.Addr, hops int) {
	from = Peer(r)
	for _, hop := range slices.Backward(list(r, "X-Forwarded-For")) {
		if !ps.believes(from) {
			break
		}
		before, err := parseHop(hop)
		if err != nil {
			break
		}
		from = before
		hops++
	}
	return from, hops
}

// overTLS reports whether the client speaks TLS to the server or to a proxy in front of it,
// and whether that is known. Each proxy appends how it was asked, like by whom, or the last one
// says it for all; what stands before that is anybody's words.
func (ps *Proxies) overTLS(r *http.Request) (secure, known bool) {
	if r.TLS != nil {
		return true, true
	}
	said := list(r, "X-Forwarded-Proto")
	if len(said) == 0 || !ps.believes(Peer(r)) {
		return false, false
	}
	_, hops := ps.trace(r)
	switch strings.ToLower(said[max(0, len(said)-max(1, hops))]) {
	case "https", "wss":
		return true, true
	case "http", "ws":
		return false, true
	default:
		return false, false
	}
}

// list returns the elements of a header that is a list, RFC 9110 section 5.6.1.
func list(r *http.Request, header string) (elements []string) {
	for _, line := range r.Header.Values(header) {
		for e := range strings.SplitSeq(line, ",") {
			elements = append(elements, strings.TrimSpace(e))
		}
	}
	return elements
}

// peer is the address at the other end of the request's connection.
func Peer(r *http.Request) netip.Addr {
	addr, _ := parseHop(r.RemoteAddr)
	return addr
}

// parseHop reads an address with or without a port.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap(), err
}
