# Everything a developer does here. `make` alone explains itself.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

GO ?= go
BIN := bin
# How long each fuzz target runs; make fuzz FUZZTIME=10m.
FUZZTIME ?= 30s
# Packages whose goroutines share state: these run under the race detector as well.
RACE := ./internal/blob/... ./internal/repo/... ./internal/azure/... ./internal/capture ./internal/restore \
	./internal/twin/fault ./internal/twin/state ./internal/twin/vdisk ./internal/twin/export

# Loops over all calls or all bits, and what does one thing at a time: nothing for the race detector to see.
LOOPS := Faults|Flip|Damage|Heal_|Death|Adversary|Golden|EveryCall|EveryBit|Troubles
# The tests of the repository in which several do something at once.
TOGETHER := Model|AtOnce|Race|Beside|Many|Cancel|GoesOn|TwoChanges|TwoTakeOvers|OthersAppend|SameMachine|UploadFailure|ReadAt|HistoryFree|Level2|FreesWhat

.PHONY: help
help: ## say what there is to do
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/holdfast
	$(GO) build -trimpath -o $(BIN)/holdfast ./cmd/holdfast

.PHONY: rescue
rescue: ## build bin/rescue, the second reader, which shares no code with bin/holdfast
	cd rescue && CGO_ENABLED=0 $(GO) build -trimpath -o ../$(BIN)/rescue .

.PHONY: rescue-source
rescue-source: ## pack bin/rescue-source.tar.gz: the second reader with all it is built from, to be kept beside repositories
	scripts/rescue-source.sh $(BIN)/rescue-source.tar.gz

.PHONY: test
test: ## run every test, and those of concurrent packages under the race detector too: what CI runs
	$(GO) vet ./...
	$(GO) test -short -parallel 4 -timeout 20m ./...
	$(GO) test -race -short -skip '$(LOOPS)' -timeout 20m $$($(GO) list $(RACE) | grep -v 'internal/repo$$')
	$(GO) test -race -short -skip '$(LOOPS)' -run '$(TOGETHER)' -timeout 20m ./internal/repo
	cd rescue && $(GO) vet ./... && $(GO) test -timeout 10m ./...

.PHONY: loops
loops: ## fail, and die, at every single call, and flip every single bit, where make test takes a sample (long)
	$(GO) test -count=1 -timeout 3h ./internal/repo ./internal/capture ./internal/restore ./test/e2e

# How many random histories make model runs in each of its eight shards.
HISTORIES ?= 600

.PHONY: model
model: ## run thousands of random histories of repositories against a model in memory (minutes; HISTORIES=)
	$(GO) test -count=1 -timeout 2h -run TestModel ./internal/repo -rapid.checks=$(HISTORIES)

# How many histories make sim runs of each kind.
SEEDS ?= 50

.PHONY: sim
sim: ## run histories of the control plane over the twin, with faults and with crashes (long; SEEDS=)
	HOLDFAST_SIM=$(SEEDS) $(GO) test -count=1 -timeout 4h -v ./internal/sim

# How many days of the large world make sim-quarter lives through.
DAYS ?= 91

.PHONY: sim-quarter
sim-quarter: ## let 60 machines in six regions live through a quarter, without faults, and with faults and crashes (long; DAYS=)
	GOGC=400 HOLDFAST_QUARTER=$(DAYS) $(GO) test -count=1 -timeout 4h -v -run 'World_(IsAsPreviewed|EveryDifference)' ./internal/sim

.PHONY: lint
lint: $(BIN)/golangci-lint ## run the linters of .golangci.yml and check formatting
	$(BIN)/golangci-lint run ./...
	cd rescue && ../$(BIN)/golangci-lint run ./...

.PHONY: format
format: $(BIN)/golangci-lint ## format every Go file as lint wants it
	$(BIN)/golangci-lint fmt ./...

# The linter is built from its pinned source, in a module of its own.
$(BIN)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: e2e
e2e: testdata/js/node_modules ## run what needs others' software: Azurite, Microsoft's JavaScript SDK, filesystem checkers
	HOLDFAST_REQUIRE_TOOLS=1 HOLDFAST_AZURITE=$(CURDIR)/testdata/js \
		$(GO) test -count=1 -timeout 20m ./internal/blob/azblob ./internal/vhd ./internal/demo/... ./test/...

testdata/js/node_modules: testdata/js/package.json testdata/js/package-lock.json
	cd testdata/js && npm ci --omit=optional --ignore-scripts
	touch $@

.PHONY: kill
kill: ## kill a backup at each of its outside calls in turn, and run it again (long)
	HOLDFAST_KILL=all $(GO) test -count=1 -timeout 3h -run Kill -v ./test/e2e

.PHONY: fuzz
fuzz: ## fuzz every parser of foreign bytes for FUZZTIME each
	@for package in $$($(GO) list ./...); do \
		folder=.$${package#$$($(GO) list -m)}; \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$folder/*_test.go 2>/dev/null | cut -c6-); do \
			echo "$$folder $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$folder; \
		done; \
	done
	@cd rescue && for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' *_test.go | cut -c6-); do \
		echo "./rescue $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) .; \
	done

.PHONY: schemas
schemas: ## write the schemas that editors check documents with
	$(GO) run ./cmd/holdfast policy schema > schemas/documents.schema.json.new
	mv schemas/documents.schema.json.new schemas/documents.schema.json

.PHONY: golden
golden: ## make the golden repositories that are missing; those that are there stay as they are
	$(GO) test -count=1 -run Golden ./internal/repo -update

.PHONY: bench
bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

.PHONY: bench-control
bench-control: ## measure the control plane with 3,000 machines on SQLite, and fail beyond its bounds
	$(GO) test -run '^$$' -bench 'Tick|Compliance|Growth' -benchmem -timeout 1h ./internal/scheduler ./internal/report ./internal/protect

# How much bench-scale makes up: TiB of unique chunks, restore points; and where, which takes 80 GB for each 100 TiB.
TIB ?= 3.125
POINTS ?= 10000
SCALE ?= $(CURDIR)/bin/scale

.PHONY: bench-scale
bench-scale: ## measure map, index, log and sets of ids at sizes made up without their data (long; TIB=, POINTS=, SCALE=folder)
	mkdir -p $(SCALE)
	$(GO) test -run '^$$' -bench 'PlanAtScale' -benchtime 1x -timeout 1h ./internal/repo/index
	HOLDFAST_SCALE_TIB=$(TIB) HOLDFAST_SCALE_FOLDER=$(SCALE) $(GO) test -run '^$$' -bench Scale_Grow -benchtime 1x -timeout 12h ./internal/repo/index
	HOLDFAST_SCALE_FOLDER=$(SCALE) $(GO) test -run '^$$' -bench Scale_Read -benchtime 1x -timeout 1h ./internal/repo/index
	HOLDFAST_SCALE_POINTS=$(POINTS) $(GO) test -run '^$$' -bench Scale_Points -benchtime 1x -timeout 4h ./internal/repo
	$(GO) test -run '^$$' -bench Scale_Map ./internal/repo/tree
	HOLDFAST_SCALE_TIB=$(TIB) $(GO) test -run '^$$' -bench Scale_Set -benchtime 1x -timeout 2h ./internal/repo/idset

.PHONY: bench-peers
bench-peers: ## measure Holdfast beside restic (and borg, kopia where they are) on one disk of real files (long; BENCH=flags)
	$(GO) run ./bench $(BENCH)

.PHONY: demo
demo: ## tell the story of the product once
	$(GO) run ./cmd/holdfast demo --once

.PHONY: images
images: ## make the demo's disk images anew (Debian's e2fsprogs ntfs-3g xfsprogs fdisk zstd faketime; root)
	scripts/make-demo-images.sh

.PHONY: docs
docs: ## check that the pages name what is there, and explain every package and dependency
	$(GO) test -count=1 -run 'Pages|Map|Explained|Changelog|SayWhat' ./internal/archtest
