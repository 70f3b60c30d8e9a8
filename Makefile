# `make help` lists the targets. All work on a fresh Debian or Ubuntu with Rust; scripts/setup installs the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The tests create namespaces and act as several users, so their binaries run as root. The caller builds them.
RUNNER := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env)
TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')

.PHONY: help demo test check docs bench faults fuzz package package-test reproducible

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: ## runs the shipped plan file on a throwaway host: plan, apply, plan, and once more after a rotation
	@scripts/setup
	@scripts/demo

test: ## runs every test on real git, PostgreSQL, sshd and users, and lists the ten slowest
	@scripts/setup --tests
	@scripts/collection units
	@scripts/test
	@scripts/collection integration

docs: ## generates docs/reference.md from the tables of keys in each kind, the screens in the documents, and the recordings
	@scripts/setup
	UPDATE_DOCS=1 cargo test --locked --lib the_reference_document
	UPDATE_DOCS=1 scripts/test --test contract -- screens:: recordings::

check: ## checks formatting, lints, wording, generated documents, licences and sources of dependencies
	@scripts/setup --check
	scripts/words
	cargo fmt --all --check
	cargo test --locked --lib the_reference_document
	cargo clippy --locked --all-targets -- --deny warnings
	scripts/collection lint
	PATH="$$PWD/target/tools/bin:$$PATH" cargo deny --locked check licenses sources bans

bench: ## compares `provision` with a C program, a script, find and psql, as ratios
	@scripts/setup
	@scripts/bench

faults: ## kills, or fails, every system call instead of a sample, and prints totals (see CONTRIBUTING.md)
	@scripts/setup
	@scripts/faults

fuzz: ## runs each fuzzer for a minute (FUZZ_SECONDS)
	@scripts/setup --fuzz
	@scripts/fuzz

package: ## builds the Debian package and the portable programs for x86-64 and arm64 in target/package
	@scripts/setup --package
	scripts/package all

package-test: ## builds the Debian package from the dev profile, and installs, uses and purges it on a copy of this system
	@scripts/setup --deb
	scripts/package deb --quick
	$(RUNNER) scripts/test-package target/package/quick/*.deb

reproducible: ## builds the packages twice, in different folders, and compares them
	@scripts/setup --package
	scripts/package --check-reproducible
