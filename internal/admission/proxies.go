package admission

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies is the list of proxies that are trusted to say where a request comes from and whether
// it came over TLS.
type Proxies struct {
	trusted []netip.Prefix
	unix    bool // every peer at a Unix socket is trusted
}

// NewProxies returns the list of these addresses, prefixes, or "unix". It panics if an entry is
// none of these.
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

// Trusts reports whether the peer of a request is a trusted proxy. The zero address is the peer
// at a Unix socket.
func (ps *Proxies) Trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return ps.unix
	}
	return slices.ContainsFunc(ps.trusted, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// Source returns the address that a request comes from: the address of the peer or, if that is a
// trusted proxy, the last address in X-Forwarded-For that is not one. Each proxy appends the
// address of its own peer, so anybody can have written the addresses before that one. Source
// returns the zero address for a peer at a Unix socket that is not trusted.
func (ps *Proxies) Source(r *http.Request) netip.Addr {
	from, _ := ps.trace(r)
	return from
}

// trace returns the source and the number of proxies that appended their peer.
func (ps *Proxies) trace(r *http.Request) (from netip.Addr, hops int) {
	from = Peer(r)
	for _, hop := range slices.Backward(list(r, "X-Forwarded-For")) {
		if !ps.Trusts(from) {
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

// overTLS reports whether the client uses TLS, to this server or to a trusted proxy, and whether
// that is known. Each proxy may append the protocol of its own peer, or only the last one may set
// it; anybody can have written the values before that.
func (ps *Proxies) overTLS(r *http.Request) (secure, known bool) {
	if r.TLS != nil {
		return true, true
	}
	said := list(r, "X-Forwarded-Proto")
	if len(said) == 0 || !ps.Trusts(Peer(r)) {
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

// Peer returns the address at the other end of the request's connection, zero for a Unix socket.
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
