package ui

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tokenhub/config"
	"tokenhub/db"
)

// keyEdit merges the fields of a request into keys.
type keyEdit struct {
	fields []field
	now    time.Time
	config *config.Config
	// revision is the one that was sent; 0 = none.
	revision uint64
}

// newKeyEdit reads the fields of a key from a request's body. What can be said
// without the key is left to apply, so that there is one place to look.
func newKeyEdit(body []byte, now time.Time, cfg *config.Config) (*keyEdit, error) {
	fields, err := parseObject(body, "")
	if err != nil {
		return nil, err
	}
	e := &keyEdit{now: now, config: cfg}
	for _, f := range fields {
		if f.name != "revision" {
			e.fields = append(e.fields, f)
			continue
		}
		if e.revision, err = parseRevision(f); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// parseRevision returns the revision that f holds; 0 for null.
func parseRevision(f field) (uint64, error) {
	if f.isNull() {
		return 0, nil
	}
	text, err := f.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, errInvalid("%s must be one that an earlier answer held: a whole number of at least 1. Leave it out to change the key whatever its revision is.", quote(f.name))
	}
	return n, nil
}

// apply merges the fields into k: what is absent stays, null removes.
func (e *keyEdit) apply(k *db.Key) error {
	for _, f := range e.fields {
		if err := e.set(k, f); err != nil {
			return err
		}
	}
	return nil
}

func (e *keyEdit) set(k *db.Key, f field) (err error) {
	switch f.name {
	case "name":
		k.Name, err = parseName(f)
	case "expires_at":
		err = e.setExpiry(k, f)
	case "models":
		k.Models, err = parseModels(f)
	case "providers":
		k.Providers, err = e.parseProviders(f, k.Providers)
	case "endpoints":
		k.Endpoints, err = parseEndpoints(f)
	case "allowed_ips":
		k.AllowedIPs, err = parseIPs(f)
	case "tags":
		k.Tags, err = parseTags(f)
	case "disabled":
		k.Disabled = false
		if !f.isNull() {
			k.Disabled, err = f.bool()
		}
	case "limits":
		err = editLimits(&k.Limits, f)
	case "id", "prefix", "status", "created_at", "last_used_at", "usage", "key":
		err = errInvalid("%s can't be set: leave it out.", quote(f.name))
	default:
		err = errInvalid("A key has no field %s.", quote(f.name))
	}
	return err
}

func (e *keyEdit) setExpiry(k *db.Key, f field) error {
	k.ExpiresAt = time.Time{}
	if f.isNull() {
		return nil
	}
	text, err := f.text()
	if err != nil {
		return err
	}
	k.ExpiresAt, err = parseExpiry(text, e.now, zoneOf(e.config))
	return err
}

// parseName reads the name of a key or token. Blanks around it are cut.
func parseName(f field) (string, error) {
	if f.isNull() {
		return "", errInvalid("\"name\" is needed: 1 to 100 characters.")
	}
	name, err := f.text()
	if err != nil {
		return "", err
	}
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > 100 {
		return "", errInvalid("\"name\" must have 1 to 100 characters.")
	}
	if strings.ContainsFunc(name, isUnprintable) {
		return "", errInvalid("\"name\" must not hold control characters or line breaks.")
	}
	return name, nil
}

// isUnprintable reports whether r is a control character, a line separator or a
// mark that turns the direction of the text around it.
func isUnprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) ||
		r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// parseModels reads globs of models. A list that holds "*" allows all, as an
// empty one does.
func parseModels(f field) ([]string, error) {
	models, err := f.list()
	for _, m := range models {
		if m == "" || len(m) > 200 || strings.ContainsFunc(m, isUnprintable) {
			return nil, errInvalid("An entry of \"models\" must be a name or pattern of 1 to 200 bytes without control characters, as gpt-* or ollama/*.")
		}
	}
	return models, err
}

// parseProviders reads names of providers. Those that the key has already are
// accepted although they may have left the configuration.
func (e *keyEdit) parseProviders(f field, had []string) ([]string, error) {
	names, err := f.list()
	known := providerNames(e.config)
	for _, name := range names {
		if name == "" || len(name) > 200 || strings.ContainsFunc(name, isUnprintable) {
			return nil, errInvalid("An entry of \"providers\" must be the name of a provider.")
		}
		if len(known) > 0 && !slices.Contains(known, name) && !slices.Contains(had, name) {
			return nil, errUnknownProvider(name, known)
		}
	}
	return names, err
}

func providerNames(cfg *config.Config) []string {
	var names []string
	for _, p := range cfg.Providers {
		names = append(names, p.Name)
	}
	return names
}

func errUnknownProvider(name string, known []string) *Error {
	return errInvalid("There is no provider %s. Configured are: %s.", quote(name), strings.Join(known, ", "))
}

func parseEndpoints(f field) (string, error) {
	if f.isNull() {
		return db.Inference, nil
	}
	v, err := f.text()
	if err == nil && v != db.Inference && v != db.AllEndpoints {
		err = errInvalid("\"endpoints\" must be \"inference\" or \"all\".")
	}
	return v, err
}

// parseIPs reads addresses and networks and returns them as networks in their
// canonical form: 10.1.2.3 is 10.1.2.3/32, 10.1.2.3/8 is 10.0.0.0/8.
func parseIPs(f field) ([]string, error) {
	list, err := f.list()
	var out []string
	for _, text := range list {
		network, ok := parseNetwork(text)
		if !ok {
			return nil, errInvalid("%s in \"allowed_ips\" is neither an IP address nor a network like 10.0.0.0/8.", quote(text))
		}
		if s := network.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, err
}

func parseNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), addr.Zone() == ""
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if network.Addr().Is4In6() { // callers' addresses are compared unmapped
		if network.Bits() < 96 {
			return netip.Prefix{}, false
		}
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	return network.Masked(), true
}

func parseTags(f field) ([]string, error) {
	tags, err := f.list()
	for _, tag := range tags {
		if tag == "" || utf8.RuneCountInString(tag) > 100 || strings.ContainsFunc(tag, isUnprintable) || strings.TrimSpace(tag) != tag || strings.Contains(tag, ",") {
			return nil, errInvalid("An entry of \"tags\" must have 1 to 100 characters, without commas, control characters or blanks around it.")
		}
	}
	return tags, err
}
