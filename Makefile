PREFIX      ?= /usr/local
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ERRORLINT   := codeberg.org/polyfloyd/go-errorlint@v1.9.0
MISSPELL    := github.com/golangci/misspell/cmd/misspell@v0.8.0

export MIGRATE_BIN := $(CURDIR)/bin/migrate

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build demo test lint test-unit test-node test-matrix soak vm-image test-vm vm-shell bench setup-bench install clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what building, testing and running need (Debian 12, 13; root)
	@scripts/setup

build: ## build the static binary bin/migrate
	CGO_ENABLED=0 go build -trimpath -o bin/migrate ./cmd/migrate

demo: setup build ## move a running job between two nodes on this machine (root)
	bin/migrate demo

test: setup build lint test-unit test-node test-vm ## everything that continuous integration runs (root)

# Errors are compared by == where io.EOF ends a stream: what wraps it, and so satisfies errors.Is,
# is a stream that was cut short. Hence no -comparison.
lint: ## gofmt, go vet, staticcheck, errorlint, misspell, the house rules
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w" $$unformatted; exit 1; }
	go vet ./...
	go vet -tags faults ./failpoint/...
	go run $(STATICCHECK) ./...
	go run $(STATICCHECK) -tags faults ./failpoint/...
	go run $(ERRORLINT) -comparison=false ./...
	go run $(MISSPELL) -error $$(git ls-files '*.go' '*.md' Makefile scripts)
	go run ./scripts/house

test-unit: ## unit tests, no root
	go test -race -count=1 $$(go list ./... | grep -v -E '/e2e/(node|demo|vm)')
	go test -race -count=1 -tags faults ./failpoint

test-node: setup build ## real CRIU, two nodes as network namespaces on this machine (root)
	go test -race -count=1 -timeout 40m -p 1 ./e2e/node/... ./e2e/demo/...

test-matrix: setup build ## every fault at every step of a move, in every mode; 50 jobs at once (root)
	MIGRATE_MATRIX=all MIGRATE_LOAD=50 go test -count=1 -v -timeout 90m -run 'TestMoveFaults|TestQueueMovesAllJobs' ./e2e/node

soak: setup build ## jobs on three nodes under random faults: COUNT=500 SEED=1 TIME=1h (root)
	SOAK_COUNT=$(or $(COUNT),500) SOAK_SEED=$(or $(SEED),1) SOAK_TIME=$(or $(TIME),1h) \
		go test -count=1 -v -timeout 0 -run TestSoakJobsSurviveRandomFaults ./e2e/node

vm-image: ## build the guest image for the tests on virtual machines (Debian)
	@scripts/vm-image

test-vm: setup build ## two virtual machines with kernels of their own
	@scripts/vm-image || test "$$CI" != true
	go test -v -count=1 -timeout 40m ./e2e/vm

vm-shell: vm-image ## open a shell on such a pair of machines
	go run ./e2e/vm/shell

bench: setup-bench build ## measure moves side by side with podman and with plain CRIU (root)
	go run ./e2e/bench

setup-bench:
	@scripts/setup --bench

install: build ## copy the binary to PREFIX/bin
	install -D -m 755 bin/migrate $(DESTDIR)$(PREFIX)/bin/migrate

clean: ## remove what was built
	rm -rf bin
