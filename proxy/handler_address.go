package proxy

import (
	"net"
	"net/netip"
	"strings"
)

// callerAddress is the peer's address, or, where the peer is a trusted proxy,
// the rightmost address in X-Forwarded-For that is not one.
func callerAddress(peer net.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	from := tcp.AddrPort().Addr().Unmap().WithZone("")
	if len(forwarded) == 0 {
		return from
	}
	isTrusted := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	for i := len(forwarded) - 1; i >= 0; i-- {
		hops := strings.Split(forwarded[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			if !isTrusted(from) {
				return from
			}
			hop, err := parseHop(strings.TrimSpace(hops[j]))
			if err != nil {
				return from
			}
			from = hop
		}
	}
	return from
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap().WithZone(""), nil
	}
	ap, err := netip.ParseAddrPort(text)
	return ap.Addr().Unmap().WithZone(""), err
}
