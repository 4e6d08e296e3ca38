package proxy

import (
	"net"
	"net/netip"

	"tokenhub/auth"
)

// callerAddress is where a call comes from; the zero Addr where the peer has no
// address, as on a socket.
func callerAddress(peer net.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return auth.CallerAddress(tcp.AddrPort().Addr(), forwarded, trusted)
}
