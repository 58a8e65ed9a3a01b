# The commands of README.md. Everything is built into one target directory outside the checkout,
# so that CI's fresh clone and a developer's tree share the compiled dependencies.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/cairn/target
# RocksDB's C++ objects are the same in both profiles: ccache compiles them once.
ifneq ($(shell command -v ccache),)
export CC ?= ccache cc
ifeq ($(origin CC),default)
export CC := ccache cc
endif
ifeq ($(origin CXX),default)
export CXX := ccache c++
endif
endif
STORE ?= cairn-data

.PHONY: setup build run test check fmt clippy

setup: ## installs what is missing
	@.ci/setup

build: setup
	cargo build --release -p cairn-server

run: build ## a durable single node on 127.0.0.1:26432
	$(CARGO_TARGET_DIR)/release/cairn start --store $(STORE)

fmt:
	cargo fmt --all -- --check

clippy: setup
	cargo clippy --workspace --all-targets -- -D warnings

test: setup ## the whole suite
	cargo build --release -p cairn-server
	cargo test --doc --workspace
	cargo nextest run --workspace

check: fmt clippy test

