# make            lists the targets
# make test       is what .ci/run runs

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
GOEXE := $(shell $(GO) env GOEXE)
GOOSES := linux darwin windows
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# When `make test` gives up; 0 = never.
TIMEOUT ?= 15m
# When this make began: the time limit of `make test` counts its preparations too.
STARTED := $(shell date +%s)

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## bin/rdd, for this machine
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/rdd$(GOEXE) ./cmd/rdd

.PHONY: run
run: build ## show rdd on the engine at hand (DOCKER_HOST, the current context, a private dockerd, or a simulated engine)
	$(GO) run ./tests/demo bin/rdd$(GOEXE)

.PHONY: setup
setup: ## install what the tests need, where that is possible; say what is missing
	@$(GO) run ./tests/setup </dev/null

.PHONY: test
test: ## everything: format, vet, type checks for three systems, lint, all tests with the race detector, a real dockerd
	@if [[ -n "$${RDD_IN_MAKE_TEST:-}" ]]; then echo 'make test was called by a test that make test runs' >&2; exit 1; fi
	@$(MAKE) setup
	@RDD_IN_MAKE_TEST=1 $(MAKE) check </dev/null
	@$(GO) build -o bin/suite$(GOEXE) ./tests/suite
	@RDD_IN_MAKE_TEST=1 bin/suite$(GOEXE) -started $(STARTED) -limit $(TIMEOUT) </dev/null

# Days of `make virtual`, each with a seed of its own, and the fuzzing time of each target of `make fuzz`.
SEEDS ?= 50
TIME ?= 30s

.PHONY: virtual
virtual: ## SEEDS days of faults in virtual time, with the race detector (a failure prints how to replay it)
	$(GO) test -race -count=1 -timeout 60m -run TestADay ./tests/virtual -seeds $(SEEDS)

.PHONY: fuzz
fuzz: ## run every fuzz target for TIME
	@$(GO) list ./... | while read -r pkg; do \
		dir=$$($(GO) list -f '{{.Dir}}' "$$pkg"); \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null | cut -c6-); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(TIME) "$$pkg" </dev/null || exit 1; \
		done; done

.PHONY: check
check: format vet lint

.PHONY: format
format: ## fail on a file that gofmt would change
	@files=$$(find . -name '*.go' -not -path './bin/*' -not -path './.git/*' -print0 | xargs -0 gofmt -l); \
	if [[ -n "$$files" ]]; then echo "not formatted (gofmt -w):" >&2; echo "$$files" >&2; exit 1; fi

.PHONY: vet
vet: ## go vet here; for the other systems everything is type-checked, which compiles nothing
	@echo "vet"; CGO_ENABLED=0 $(GO) vet ./...
	@$(GO) run ./tests/crosscheck $(filter-out $(shell $(GO) env GOOS),$(GOOSES))

.PHONY: lint
lint: ## staticcheck, import rules, stale doc links
	@echo "staticcheck"; $(GO) tool staticcheck ./...
	@echo "import rules and doc links"; $(GO) test -count=1 -run '^Test(Arch|DocLinks)' ./tests

.PHONY: cross
cross: ## build and vet for linux, darwin and windows
	@for os in $(GOOSES); do echo "vet $$os"; GOOS=$$os CGO_ENABLED=0 $(GO) build ./... && GOOS=$$os CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

# Numbers of containers of `make bench`, which of its benchmarks, QUICK=1 for a look of two minutes, files for the table and
# for a few rows of it (make bench-docs writes those of the documentation).
SIZES ?= 100,1000,10000
ROWS ?= .
MARKDOWN ?= bin/bench.md
SHORT ?= bin/bench-short.md

.PHONY: bench
bench: build ## rdd beside the bare loop, as a table; SIZES, ROWS and QUICK=1 choose; bin/bench.txt is for benchstat
	@$(GO) build -o bin/bench$(GOEXE) ./tests/bench
	@bin/bench$(GOEXE) $(if $(QUICK),-quick) -sizes '$(SIZES)' -rows '$(ROWS)' -out bin/bench.txt -markdown '$(MARKDOWN)' -short '$(SHORT)' bin/rdd$(GOEXE)

.PHONY: bench-docs
bench-docs: ## make bench, and its tables into docs/performance.md and README.md
	@$(MAKE) bench MARKDOWN=docs/performance.md SHORT=README.md

.PHONY: generate
generate: ## regenerate code (needs protoc)
	@command -v protoc >/dev/null || { echo 'generate needs protoc (Debian: apt-get install protobuf-compiler)' >&2; exit 1; }
	GOBIN='$(CURDIR)/bin/tools' $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go
	PATH='$(CURDIR)/bin/tools':"$$PATH" $(GO) generate ./...

.PHONY: clean
clean: ## remove what make made, and engines that killed test runs left behind
	rm -rf bin coverage*
	@$(GO) run ./tests/setup -sweep
