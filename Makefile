# adit: everything a contributor types. `make run` needs nothing but Go and an
# ssh key; `make test` says what else it wants.

VERSION := $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null))
LDFLAGS := -s -w $(if $(VERSION),-X adit/gateway.Version=$(VERSION))
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 freebsd/amd64 windows/amd64
FUZZTIME ?= 5s

.PHONY: run build test lint fuzz bench benchmarks-doc pgo

# Serve the local preset: this machine only, your own ~/.ssh keys.
run: build
	./adit serve

# One static binary.
build:
	CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '$(LDFLAGS)' -o adit ./cmd/adit

# Unit tests, and the scripts in testdata/script against the real program and
# the real ssh. All of it under the race detector.
test:
	scripts/deps
	go test -race -pgo=off -timeout 9m ./...

# Formatting, vet, staticcheck, and that it builds wherever it is meant to.
lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w $$unformatted" >&2; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@set -e; for p in $(PLATFORMS); do echo "build and vet $$p"; \
		export GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0; go build -pgo=off ./...; go vet ./...; done

# Each fuzz target for FUZZTIME. Longer: make fuzz FUZZTIME=10m
fuzz:
	scripts/fuzz $(FUZZTIME)

# The gateway beside OpenSSH and nginx, on this machine and in the same run: a
# table in some eight minutes, best on a machine with nothing else to do. Parts
# of it: make bench BENCH='-only TCP -rounds 1'. It prints; it never fails.
bench: build
	bench/deps
	go run ./bench $(BENCH)

# The same, kept as docs/benchmarks.md.
benchmarks-doc:
	$(MAKE) bench BENCH='-md docs/benchmarks.md'

# The profile that the compiler is guided by, taken anew.
pgo:
	scripts/pgo
