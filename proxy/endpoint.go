package proxy

import "strings"

// endpoint is what a path under /v1 means to the gateway.
type endpoint uint8

const (
	// other is any path that is not in the inference list: stored objects,
	// realtime, and what TokenHub has never heard of.
	other endpoint = iota
	chatCompletions
	completions
	responses
	messages
	countTokens
	embeddings
	images
	audio
	moderations
	rerank
	models
	ownKey
)

// endpointOf tells what the raw path (no query, as sent) is. Only exact
// spellings count: /v1/Chat/Completions and an encoded letter are other.
func endpointOf(path string) endpoint {
	switch path {
	case "/v1/chat/completions":
		return chatCompletions
	case "/v1/completions":
		return completions
	case "/v1/responses":
		return responses
	case "/v1/messages":
		return messages
	case "/v1/messages/count_tokens":
		return countTokens
	case "/v1/embeddings":
		return embeddings
	case "/v1/moderations":
		return moderations
	case "/v1/rerank":
		return rerank
	case "/v1/models":
		return models
	case "/v1/key":
		return ownKey
	}
	switch {
	case below(path, "/v1/images/"):
		return images
	case below(path, "/v1/audio/"):
		return audio
	case below(path, "/v1/models/"):
		return models
	}
	return other
}

func below(path, prefix string) bool {
	return len(path) > len(prefix) && strings.HasPrefix(path, prefix)
}

// isInference reports whether a key with endpoints = inference may call it.
func (e endpoint) isInference(method string) bool {
	switch e {
	case other:
		return false
	case models, ownKey:
		return method == "GET" || method == "HEAD"
	}
	return method == "POST"
}

// isMetered reports whether its answers carry usage that is counted.
func (e endpoint) isMetered() bool {
	switch e {
	case other, models, ownKey, countTokens:
		return false
	}
	return true
}
