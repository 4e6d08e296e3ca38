// Package e2e holds the tests of TokenHub from outside: the official SDKs of
// OpenAI and Anthropic against the real binary, with a scripted provider behind
// it. It is a module of its own, so that nothing of the SDKs enters TokenHub's.
//
//	cd e2e && go test -count=1 ./...
//	RACE=1 go test -count=1 ./...    # the binary is built with the race detector
package e2e
