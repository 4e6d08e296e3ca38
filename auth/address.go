package auth

import (
	"net/netip"
	"slices"
	"strings"
)

// CallerAddress is the peer's address or, where the peer is a trusted proxy, the
// rightmost address in the values of its X-Forwarded-For headers that is not one.
// What can't be read ends the way back: no trusted proxy wrote it.
func CallerAddress(peer netip.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	from := bare(peer)
	for _, value := range slices.Backward(forwarded) {
		hops := strings.Split(value, ",")
		for _, hop := range slices.Backward(hops) {
			if !within(trusted, from) {
				return from
			}
			addr, err := parseHop(strings.TrimSpace(hop))
			if err != nil {
				return from
			}
			from = addr
		}
	}
	return from
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return bare(addr), nil
	}
	at, err := netip.ParseAddrPort(text)
	return bare(at.Addr()), err
}

// bare is an address in the one form in which addresses are compared.
func bare(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
