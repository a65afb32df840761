# make alone says what there is. Only Go, make and a POSIX shell are needed; the
# tools come through the module proxy.

# Every module of the tree: the root, and what nests below it.
MODULES := . $(filter-out .,$(patsubst %/go.mod,%,$(sort $(shell find . -name go.mod -not -path '*/testdata/*'))))

# The packages that are tested first, and whose statement coverage is held to a
# minimum.
CORE := $(patsubst %,./%,$(wildcard claims keyring token replay))

# Time for each fuzz target, or a count of executions such as 2000x.
FUZZTIME = 10s

# Further go test flags for race, 386, purego, gomaxprocs, gogc and soak.
TESTFLAGS =

# The core and the root come before anything is downloaded for the nested modules.
PACKAGES = '$(CORE) ./...' '$(patsubst %,%/...,$(filter-out .,$(MODULES)))'
TEST = tools/test.sh $(PACKAGES)
# The tools' own versions, and not those of the workspace.
TOOL = GOWORK=off go -C tools tool

.PHONY: help
help:
	@echo 'make test    vet and test every module, the core first; the last line counts the tests'
	@echo 'make race    the tests under the race detector (needs a C compiler)'
	@echo 'make check   all of the above and: format, modules, staticcheck, govulncheck, workflows,'
	@echo '             other builds and systems, coverage, size of the documentation, and:'
	@echo 'make release-check   release all modules to a proxy made for it, and use them from there'
	@echo 'make newest  upgrade what the modules require'
	@echo 'make bench   all benchmarks, and the libraries to compare with, into bench/RESULTS.md;'
	@echo '             QUICK=1 measures less'
	@echo 'make bench-check   the ratios that are to hold, within a margin'
	@echo 'make fuzz    every fuzz target for FUZZTIME=$(FUZZTIME)'
	@echo 'make mutate  compile faults into the code, and see that the tests beside it catch each'
	@echo 'make soak    the long form of the tests that have one'
	@echo 'make demo    mint, show, open and refuse a token'

# -- The tests, as they are and under what may change their outcome.

.PHONY: test race 386 purego gomaxprocs gogc cross soak
test:
	@$(TEST)

race:
	@$(TEST) -- -race $(TESTFLAGS)

386:
	@tools/386.sh $(PACKAGES) -- $(TESTFLAGS)

purego:
	@$(TEST) -- -tags=purego $(TESTFLAGS)

# -exec, so that only the tests run under the setting and not the compiler.
gomaxprocs:
	@$(TEST) -- -exec='env GOMAXPROCS=1' $(TESTFLAGS)

# Without a memory limit a test that allocates in a loop would take the machine.
gogc:
	@$(TEST) -- -exec='env GOGC=off GOMEMLIMIT=2GiB' $(TESTFLAGS)

# The other systems' builds, tests included. A test that needs Unix says so in its
# build constraint. No program of these runs, so the compiler optimizes nothing.
cross:
	@for system in windows/amd64 darwin/arm64; do for dir in $(MODULES); do \
		(cd "$$dir" && GOOS=$${system%/*} GOARCH=$${system#*/} go vet -gcflags='all=-N -l -dwarf=false' ./...) || exit 1; done; \
		echo "cross: $$system: pass"; done

soak:
	@CHATTOKEN_SOAK=1 $(TEST) -- -run=Soak -timeout=2h $(TESTFLAGS)

# -- The checks.

.PHONY: check static builds fmt tidy staticcheck govulncheck actionlint cover docsize release-check
check: static release-check test race builds cross cover docsize

static: fmt tidy staticcheck govulncheck actionlint

builds: 386 purego gomaxprocs gogc

fmt:
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || \
		{ echo "gofmt: not formatted: $$unformatted"; exit 1; }
	@echo 'gofmt: pass'

# The nested modules require a root that is not published, so release-check does
# it for them.
tidy:
	@for dir in . tools; do (cd "$$dir" && GOWORK=off go mod tidy -diff && GOWORK=off go mod verify) || exit 1; done

# go tool -n builds the tool and prints where it is, to be run in each module.
staticcheck:
	@bin=$$($(TOOL) -n staticcheck) && \
		for dir in $(MODULES); do (cd "$$dir" && "$$bin" ./... && "$$bin" -tags=purego ./...) || exit 1; done
	@echo 'staticcheck: pass'

govulncheck:
	@bin=$$($(TOOL) -n govulncheck) && tools/govulncheck.sh "$$bin" $(MODULES)

actionlint:
	@bin=$$($(TOOL) -n actionlint) && "$$bin" .github/workflows/*.yml
	@echo 'actionlint: pass'

cover:
	@tools/cover.sh 95 $(CORE)

# RELEASING.md says what it shows.
release-check:
	@go run ./tools/release -gorelease "$$($(TOOL) -n gorelease)" .

# The public packages' go doc -short in lines: what does not fit in a few is to
# be split or deleted.
docsize:
	@pkgs=$$(go list -f '{{if and .GoFiles (ne .Name "main")}}{{.ImportPath}}{{end}}' ./...) && \
		for pkg in $$(echo "$$pkgs" | grep -v /internal/); do \
		echo "go doc -short: $$(go doc -short "$$pkg" | wc -l) lines: $$pkg"; done

# -- The rest.

.PHONY: newest bench bench-check fuzz mutate demo
newest:
	@tools/newest.sh $(MODULES)

bench:
	@cd bench/peers && go run ./cmd/report $(if $(QUICK),-quick)

bench-check:
	@cd bench/peers && go run ./cmd/report -check

fuzz:
	@tools/fuzz.sh $(FUZZTIME) $(MODULES)

mutate:
	@go run ./tools/mutate

demo:
	@go run ./cmd/chattoken demo
