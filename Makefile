# The commands of README.md. Everything is built into one target directory outside the checkout,
# so that CI's fresh clone and a developer's tree share the compiled dependencies.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/cairn/target
STORE ?= cairn-data

# What `make jepsen` simulates, and how many faults it brings over real processes.
SEED ?= 1000
SEEDS ?= 10000
CLUSTER_SEEDS ?= 1000
FAULTS ?= 100

.PHONY: setup build run test simulation jepsen jepsen-smoke bench bench-smoke crash check fmt clippy

setup: ## installs what is missing
	@.ci/setup

build: setup
	.ci/cargo build --release -p cairn-server

run: build ## a durable single node on 127.0.0.1:26432
	$(CARGO_TARGET_DIR)/release/cairn start --store $(STORE)

fmt:
	.ci/cargo fmt --all -- --check

clippy: setup
	.ci/cargo clippy --workspace --all-targets -- -D warnings

test: setup simulation bench-smoke jepsen-smoke ## the whole suite
	.ci/cargo test --doc --workspace
	.ci/cargo nextest run --workspace

# Optimized: the same seeds would take four times as long as a test of the other profile.
simulation: setup ## 500 seeds of one node, each with at least 1,000 commits and 3 crashes; 60 of three nodes, 20 of five
	.ci/cargo build --release -p cairn-server -p cairn-jepsen
	$(CARGO_TARGET_DIR)/release/cairn-jepsen sim --seed 1 --seeds 500 --twice 50 --quiet
	$(CARGO_TARGET_DIR)/release/cairn-jepsen cluster --seed 1 --seeds 60 --twice 6 --quiet
	$(CARGO_TARGET_DIR)/release/cairn-jepsen cluster --seed 1 --seeds 20 --nodes 5 --twice 2 --quiet

jepsen: setup ## a long simulation (SEED=first SEEDS=number), then a cluster of processes (FAULTS=number): jepsen-out
	.ci/cargo build --release -p cairn-server -p cairn-jepsen
	$(CARGO_TARGET_DIR)/release/cairn-jepsen sim --seed $(SEED) --seeds $(SEEDS) --twice $(SEEDS) --quiet
	$(CARGO_TARGET_DIR)/release/cairn-jepsen cluster --seed $(SEED) --seeds $(CLUSTER_SEEDS) --quiet
	$(CARGO_TARGET_DIR)/release/cairn-jepsen cluster --seed $(SEED) --seeds $(CLUSTER_SEEDS) --nodes 5 --quiet
	$(CARGO_TARGET_DIR)/release/cairn-jepsen real --seed $(SEED) --faults $(FAULTS)

# After the simulation: that has built the binary.
jepsen-smoke: simulation ## three processes, a few kills and pauses
	$(CARGO_TARGET_DIR)/release/cairn-jepsen real --faults 4 --kinds kill,pause --workload bank --out $(CARGO_TARGET_DIR)/jepsen-smoke

bench: build ## Cairn beside PostgreSQL 15: docs/bench; options in BENCH, see server/bench/bench.py --help
	python3 server/bench/bench.py --cairn $(CARGO_TARGET_DIR)/release/cairn $(BENCH)

# After the simulation: that has built the binary.
bench-smoke: simulation
	python3 server/bench/bench.py --cairn $(CARGO_TARGET_DIR)/release/cairn --smoke

check: fmt clippy test

crash: setup ## real crashes, for longer than the suite has time
	CAIRN_CRASH_ROUNDS=1000 .ci/cargo nextest run --workspace -E 'binary(crash)'
