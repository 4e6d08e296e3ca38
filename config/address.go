package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// asAddress reads host:port to listen on; the host may be empty.
func asAddress(l layer) (string, error) {
	text, err := asText(l)
	if err != nil || text == "" {
		return "", err
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, " /@") || hasControl(host) {
		return "", fmt.Errorf("%q is not an address: write host:port, like 127.0.0.1:8080, [::1]:8080 or :8080", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("%q has no port from 0 to 65535 after the last colon", text)
	}
	return text, nil
}

// sameAddress says whether two addresses cannot both be listened on.
func sameAddress(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" { // with port 0 each gets a free one
		return false
	}
	all := []string{"", "0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(all, hostA) || slices.Contains(all, hostB)
}

// asURL reads an absolute http or https URL and cuts a trailing slash. Nothing of
// a wrong one is repeated: it may hold a credential.
func asURL(l layer) (string, error) {
	text, err := asText(l)
	if err != nil || text == "" {
		return "", err
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || hasControl(text):
		return "", errors.New("is not a URL: write one like https://example.com/v1")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("does not begin with http:// or https://")
	case u.User != nil:
		return "", errors.New("holds a user name or password: credentials of a provider belong into api_key")
	case u.Hostname() == "":
		return "", errors.New("has no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return "", errors.New("has a query or a fragment: write the part before ? and # only")
	case !goodPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
		return "", errors.New("has no port from 1 to 65535 after the colon")
	}
	text = strings.TrimSuffix(text, "/")
	path := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." || part == "" && len(u.Path) > 1 {
			return "", errors.New("has an empty or a dotted part in its path")
		}
	}
	return text, nil
}

func goodPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// asPrefix reads a CIDR or a single address, in canonical form.
func asPrefix(l layer) (netip.Prefix, error) {
	text, err := asText(l)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR: write one like 10.0.0.1 or 10.0.0.0/8", text)
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// asOrigin reads the origin of a web page as browsers send it: lower case and
// without the default port.
func asOrigin(l layer) (string, error) {
	text, err := asText(l)
	if err != nil || text == "*" {
		return text, err
	}
	wrong := errors.New("is not an origin: write scheme://host or scheme://host:port without a path, or *")
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		u.Path != "" || strings.ContainsAny(text, "?#*, ") || strings.HasSuffix(u.Host, ":") || !goodPort(u.Port()) {
		return "", wrong
	}
	if u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443" {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	return u.Scheme + "://" + u.Host, nil
}
