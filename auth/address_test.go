package auth

import (
	"net/netip"
	"testing"
)

// TestCallerAddress: the admin side had a reading of X-Forwarded-For of its own,
// which took a proxy that writes ports for the caller.
func TestCallerAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		trusted   []netip.Prefix
		want      string
	}{
		{"1.2.3.4", nil, trusted, "1.2.3.4"},
		{"1.2.3.4", []string{"9.9.9.9"}, trusted, "1.2.3.4"},
		{"127.0.0.1", []string{"9.9.9.9"}, nil, "127.0.0.1"},
		{"10.0.0.1", nil, trusted, "10.0.0.1"},
		{"10.0.0.1", []string{""}, trusted, "10.0.0.1"},
		{"10.0.0.1", []string{"9.9.9.9"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"8.8.8.8, 9.9.9.9"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"8.8.8.8", "9.9.9.9"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"8.8.8.8, 9.9.9.9, 10.0.0.2"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, trusted, "10.0.0.3"},
		{"10.0.0.1", []string{"9.9.9.9:1234"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"9.9.9.9:1234, 10.0.0.2:80"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"[2001:db8::1]:80"}, trusted, "2001:db8::1"},
		{"10.0.0.1", []string{"[2001:db8::1]"}, trusted, "2001:db8::1"},
		{"10.0.0.1", []string{"2001:db8::1"}, trusted, "2001:db8::1"},
		{"10.0.0.1", []string{"::ffff:9.9.9.9"}, trusted, "9.9.9.9"},
		{"10.0.0.1", []string{"nonsense"}, trusted, "10.0.0.1"},
		{"10.0.0.1", []string{"9.9.9.9:http"}, trusted, "10.0.0.1"},
		{"10.0.0.1", []string{"8.8.8.8, nonsense, 10.0.0.2"}, trusted, "10.0.0.2"},
		{"fd00::1", []string{"9.9.9.9"}, trusted, "9.9.9.9"},
		{"fd00::1%eth0", []string{"9.9.9.9"}, trusted, "9.9.9.9"},
		{"::ffff:10.0.0.1", []string{"9.9.9.9"}, trusted, "9.9.9.9"},
	} {
		if got := CallerAddress(netip.MustParseAddr(c.peer), c.forwarded, c.trusted); got.String() != c.want {
			t.Errorf("%s via %q: got %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	if got := CallerAddress(netip.Addr{}, []string{"9.9.9.9"}, trusted); got.IsValid() {
		t.Errorf("a peer without an address: %s", got)
	}
}
