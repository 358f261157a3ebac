package admission

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Origins is the list of origins whose pages may connect, see RFC 6454. A browser names the
// origin of the page in each WebSocket handshake. Nothing but this header keeps foreign pages from
// connecting with the cookies of a user.
type Origins struct {
	allowed []origin
	opaque  []string // allowed origins without a host: "null", "file://"
	any     bool
	proxies *Proxies
}

type origin struct {
	scheme, host, port string
	subdomains         bool // the entry was "*." and host
}

// NewOrigins returns the list of these origins. It panics if an entry is not an origin.
func NewOrigins(list []string, any bool, ps *Proxies) *Origins {
	o := &Origins{any: any, proxies: ps}
	for _, s := range list {
		if s == "null" || s == "file://" {
			o.opaque = append(o.opaque, s)
			continue
		}
		parsed, ok := parseOrigin(s)
		if !ok {
			panic(fmt.Sprintf("realtime: Options.Origins: %q is not an origin such as "+
				`"https://app.example.com" or "https://*.example.com"`, s))
		}
		if host, wild := strings.CutPrefix(parsed.host, "*."); wild {
			parsed.host, parsed.subdomains = host, true
		}
		if strings.Contains(parsed.host, "*") {
			panic(fmt.Sprintf("realtime: Options.Origins: %q: the only wildcard is "+
				`"https://*.example.com"`, s))
		}
		o.allowed = append(o.allowed, parsed)
	}
	return o
}

// parseOrigin reads scheme://host[:port] and nothing more.
func parseOrigin(s string) (origin, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil ||
		u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		u.Path != "" && u.Path != "/" {
		return origin{}, false
	}
	scheme := strings.ToLower(u.Scheme)
	return origin{
		scheme: scheme,
		host:   strings.ToLower(u.Hostname()),
		port:   cmp.Or(u.Port(), defaultPort(scheme)),
	}, true
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

// Check reports whether the page behind the request may connect. If not, refused is what to report:
// the Origin header or, without one, the value of Sec-Fetch-Site. A browser sends no Origin header
// for its own site and for images and scripts, and Sec-Fetch-Site then says whether the page is of
// this site. A request with neither header comes from a program and is accepted.
func (o *Origins) Check(r *http.Request) (refused string, ok bool) {
	header := r.Header.Values("Origin")
	switch {
	case o.any:
		return "", true
	case len(header) == 0:
		switch site := r.Header.Get("Sec-Fetch-Site"); site {
		case "", "same-origin", "none": // none: a person has typed the address
			return "", true
		default:
			return site, false
		}
	case slices.Contains(o.opaque, header[0]) && len(header) == 1:
		return "", true
	case len(header) > 1:
		return strings.Join(header, ", "), false
	}
	from, ok := parseOrigin(header[0])
	if !ok {
		return header[0], false
	}
	return header[0], o.same(from, r) || slices.ContainsFunc(o.allowed, from.matches)
}

// same reports whether a page of this origin came from the host that the request is for, by the
// same scheme. A page that came without TLS may have been written by anybody on the way. If this
// server is not reached over TLS, a proxy before it may end TLS; unless a trusted proxy says
// which, both schemes are accepted.
func (o *Origins) same(from origin, r *http.Request) bool {
	if from.scheme != "http" && from.scheme != "https" {
		return false
	}
	if secure, known := o.proxies.overTLS(r); known && secure != (from.scheme == "https") {
		return false
	}
	host, ok := parseOrigin(from.scheme + "://" + r.Host)
	return ok && host.host == from.host && host.port == from.port
}

func (from origin) matches(allowed origin) bool {
	if from.scheme != allowed.scheme || from.port != allowed.port {
		return false
	}
	if allowed.subdomains {
		return strings.HasSuffix(from.host, "."+allowed.host)
	}
	return from.host == allowed.host
}
