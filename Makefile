# TokenHub. `make` lists the targets. Go is all that is needed; a C compiler
# adds the race detector, a network the linter and the tests with real SDKs.

.DEFAULT_GOAL := help
SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 30s
SOAK     ?= 8m
KILL_ROUNDS ?= 100
BENCH    ?= .
ARGS     ?= serve --demo

GOLANGCI_VERSION := v2.15.0
GOLANGCI         := bin/golangci-lint-$(GOLANGCI_VERSION)

# Tools of a release, as modules: go.sum's database vouches for what they are.
PLATFORMS    := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
GOVULNCHECK  := golang.org/x/vuln/cmd/govulncheck@v1.9.0
GORELEASER   := github.com/goreleaser/goreleaser/v2@v2.14.0
SBOM_VERSION := v1.10.0
SBOM         := bin/cyclonedx-gomod-$(SBOM_VERSION)/cyclonedx-gomod

# The race detector is written in C.
RACE := $(if $(shell command -v $$(go env CC)),-race)

##@ Work

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ /                  { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z0-9-]*:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build the static binary bin/tokenhub
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/tokenhub .

.PHONY: run
run: build ## build and run it; ARGS="serve --demo"
	bin/tokenhub $(ARGS)

##@ Checks

.PHONY: test
test: format vet lint-if-there race allocs e2e ## everything that must hold before a commit

.PHONY: format
format: ## fail when a file is not formatted
	@files=$$(gofmt -l .); \
	if [ -n "$$files" ]; then echo "Not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint, built once into bin/
	$(GOLANGCI) run
	cd e2e && ../$(GOLANGCI) run

# Without a network the linter can't be built: that is no reason to have no tests.
.PHONY: lint-if-there
lint-if-there:
	@if [ -x $(GOLANGCI) ] || $(MAKE) --no-print-directory $(GOLANGCI); then \
		$(MAKE) --no-print-directory lint; \
	else echo "Skipped: golangci-lint is not in bin/ and could not be built (is there a network?)."; fi

$(GOLANGCI):
	@echo "Building golangci-lint $(GOLANGCI_VERSION), once; this takes a few minutes."
	@GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/golangci-lint $@

.PHONY: race
race: ## all tests, the fuzz seeds included, under the race detector
	@[ -n "$(RACE)" ] || echo "Without the race detector: there is no C compiler."
	go test $(RACE) ./...
	$(if $(RACE),go test ./proxy # whose system calls are others without it)

.PHONY: allocs
allocs: ## allocations per request against the committed baseline
	go test -count=1 -run '^TestAllocations$$' ./bench

# The pages are tried in a real browser. Where it is missing and may be
# installed, it is.
.PHONY: chromium
chromium:
	@if command -v chromium chromium-browser google-chrome >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the tests of the pages."; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| echo "Skipped: the tests of the pages, since Chromium could not be installed (is there a network?)."; \
	else echo "Skipped: the tests of the pages, since there is no Chromium: apt-get install chromium."; fi
	@command -v nginx >/dev/null || echo "Skipped: the test behind nginx, since there is none: apt-get install nginx-light."
	@command -v npm >/dev/null || echo "Skipped: the tests with the Node SDKs, since there is no npm."

.PHONY: e2e
e2e: chromium ## the official SDKs against the real binary
	@if [ ! -f e2e/go.mod ]; then :; \
	elif ! (cd e2e && go mod download 2>/dev/null); then echo "Skipped: the modules of e2e could not be fetched (is there a network?)."; \
	else echo "cd e2e && go test -count=1 ./..."; cd e2e && go vet ./... && go test -count=1 ./...; fi

##@ Measures

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME=30s
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ { name[++n] = $$1 } /^ok/ { for (i = 1; i <= n; i++) print $$2, name[i]; n = 0 }' | \
	while read -r package name; do \
		echo "== $$package $$name"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package"; \
	done

.PHONY: torture
torture: ## kill it KILL_ROUNDS=100 times, soak it for SOAK=8m, fuzz it; 15 minutes
	@$(MAKE) --no-print-directory fuzz FUZZTIME=5s
	cd e2e && KILL_ROUNDS=$(KILL_ROUNDS) SOAK=$(SOAK) go test -count=1 -v -timeout 0 -run '^(TestKill|TestSoak)$$' .

.PHONY: bench
bench: ## against nginx and bare Fiber, 8 minutes; writes docs/performance.md
	go run ./bench -o docs/performance.md

.PHONY: bench-quick
bench-quick: ## the same in little time, printed only
	go run ./bench -seconds 1 -rounds 1

.PHONY: bench-go
bench-go: ## the benchmarks of the packages; BENCH=regexp
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

##@ Release

.PHONY: cross
cross: ## build for each platform of a release
	@for platform in $(PLATFORMS); do \
		echo "$$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go build -trimpath -o /dev/null .; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go vet .; \
	done

# The second build has a cache of its own: with the first one's it would prove nothing.
.PHONY: reproducible
reproducible: ## build the last commit twice, in two places, and compare the bytes
	@work=$$(mktemp -d); trap 'chmod -R u+w "$$work"; rm -rf "$$work"' EXIT; \
	for place in one another/place; do \
		git clone -q --no-hardlinks . "$$work/$$place"; \
		(cd "$$work/$$place" && GOCACHE="$$work/cache of $${place%%/*}" $(MAKE) --no-print-directory build VERSION=$(VERSION) >/dev/null); \
		cp "$$work/$$place/bin/tokenhub" "$$work/$${place%%/*}.bin"; \
		sha256sum <"$$work/$${place%%/*}.bin"; \
	done; \
	cmp "$$work/one.bin" "$$work/another.bin" && echo "The same, byte by byte."

.PHONY: notice
notice: ## write NOTICE anew: the licences of all that is linked
	go test -count=1 -run '^TestNotice$$' -update-notice .

.PHONY: vuln
vuln: ## known weaknesses in what is linked (asks vuln.go.dev)
	go run $(GOVULNCHECK) ./...

.PHONY: release-check
release-check: $(SBOM) ## build a release into dist/ without publishing it
	PATH="$(CURDIR)/$(dir $(SBOM)):$$PATH" go run $(GORELEASER) release --snapshot --clean

.PHONY: release
release: $(SBOM) ## build the tag that is checked out and publish it as a draft
	PATH="$(CURDIR)/$(dir $(SBOM)):$$PATH" go run $(GORELEASER) release --clean

$(SBOM):
	GOBIN=$(CURDIR)/$(patsubst %/,%,$(dir $@)) go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(SBOM_VERSION)
