package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"tokenhub/db"
)

// admit decides what can be said of a call before its body was read: address
// and endpoint.
func admit(key *db.Key, call *Call) *Error {
	if len(key.AllowedIPs) > 0 && !addressIn(key.AllowedIPs, call.From) {
		return failf("ip_not_allowed", "This API key may not be used from the address %s. Ask its owner to add it to allowed_ips.", call.From)
	}
	return admitEndpoint(key, call)
}

// admitEndpoint decides about the endpoint alone.
func admitEndpoint(key *db.Key, call *Call) *Error {
	switch call.Method {
	case "TRACE", "TRACK", "CONNECT":
		// They ask a server to send the request back, with the provider's
		// credential in it, or to become a tunnel.
		return failf("endpoint_not_allowed", "The method %s is not passed on to providers.", call.Method)
	}
	e := call.endpoint()
	inference := e.isInference(call.Method) && !call.Upgrade
	if key.Endpoints != db.AllEndpoints && !inference {
		return failf("endpoint_not_allowed", "This API key may call models only, not %s %s. That takes a key with endpoints = all.", call.Method, call.Path)
	}
	if inference {
		return nil
	}
	if key.Limits.Tokens() || key.Limits.USD() {
		return failf("endpoint_not_metered", "Usage of %s %s can't be counted, so an API key with a token or USD limit may not call it.", call.Method, call.Path)
	}
	if !restrictsModels(key) {
		return nil
	}
	// Providers may read a path in another spelling than this one's.
	spelt := strings.ToLower(strings.TrimRight(unescapePath(call.Path), "/"))
	switch {
	case call.Upgrade:
		// Elsewhere each message names a model of its own, and of several names in
		// the query a provider may take any.
		if call.Path != "/v1/realtime" || countQuery(call.Query, "model") != 1 {
			return failf("endpoint_not_metered", "An API key with a list of models may open a WebSocket at /v1/realtime only, with one model in the query.")
		}
	case call.Method == "GET", call.Method == "HEAD":
	case hidesModel(call.Path):
		return failf("endpoint_not_metered", "The model of %s %s stands in a stored object, so an API key with a list of models may not call it.", call.Method, call.Path)
	case e == other && endpointOf(spelt) != other:
		return failf("endpoint_not_metered", "An API key with a list of models has to spell the path exactly: %s.", spelt)
	}
	return nil
}

// hidesModel reports whether what is sent to a path can name a model where the
// gateway does not see it: inside of a file, a nested object, or an object that
// is stored at the provider.
func hidesModel(path string) bool {
	path = strings.ToLower(unescapePath(path))
	for _, stored := range []string{"batches", "messages/batches", "assistants", "threads", "fine_tuning",
		"fine-tunes", "evals", "realtime", "chatkit", "agents", "workflows"} {
		if rest, ok := strings.CutPrefix(path, "/v1/"+stored); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// addressIn reports whether an address is in one of the CIDRs.
func addressIn(cidrs []string, from netip.Addr) bool {
	from = from.Unmap()
	for _, cidr := range cidrs {
		if p, err := netip.ParsePrefix(cidr); err == nil && p.Contains(from) {
			return true
		}
	}
	return false
}

// modelAllowed reports whether a key may have a model served: asked is the name
// asked for, served the model sent to the provider.
func modelAllowed(key *db.Key, asked, provider, served string) bool {
	if len(key.Models) == 0 {
		return true
	}
	for _, pattern := range key.Models {
		if match(pattern, asked) || match(pattern, served) || match(pattern, provider+"/"+served) {
			return true
		}
	}
	return false
}

// providerAllowed reports whether a key may be served by a provider.
func providerAllowed(key *db.Key, name string) bool {
	if len(key.Providers) == 0 {
		return true
	}
	for _, p := range key.Providers {
		if p == name {
			return true
		}
	}
	return false
}

// restrictsModels reports whether a key may not call all models: no list means
// all, and so does one with "*" in it.
func restrictsModels(key *db.Key) bool {
	return len(key.Models) > 0 && !slices.Contains(key.Models, "*")
}

// needsModel reports whether each model call of the key must name its model
// where it can be read.
func needsModel(key *db.Key) bool {
	return restrictsModels(key) || key.Limits.Tokens() || key.Limits.USD()
}
