# raftmail: `make demo` shows it, `make test` proves it. `make help` lists the rest.

PYTHON ?= python3
# Test processes; `auto` is one for each core.
WORKERS ?= auto
# The newest toxiproxy that the Go of Debian 12 (1.19) builds; later ones ask for 1.22 and more.
TOXIPROXY_VERSION := v2.8.0

# The simulator: how many seeds, how many nodes each, one seed to replay, and how many processes (one for each core).
SEEDS ?= 20
NODES ?= 3
SEED ?=
JOBS ?=
# The share of the simulator and the short chaos run of `make test`, in seconds.
SIMULATE_SECONDS ?= 90
CHAOS_SECONDS ?= 20

BIN := .venv/bin
# Tests find `raftmail` and `toxiproxy-server` on PATH.
WITH_BIN := PATH="$(CURDIR)/$(BIN):$$PATH"
# Folders that hold Python now (mypy refuses a folder without any).
CODE := $(sort $(foreach d,raftmail cli chaos bench tests,$(if $(shell find $(d) -name '*.py' -print -quit 2>/dev/null),$(d))))

title = @printf '\n== %s\n' '$(1)'

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# The steps of `make test` run in the order written, one at a time, whatever -j says.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-all format-check ruff types lint format docs-tables unit unit-long simulate simulate-share chaos-short bench \
	toxiproxy clean

help:
	@echo 'make demo         start a cluster on this machine, break it, watch it mend'
	@echo 'make test         formatting, lint, types, tests, a share of the simulator, a short chaos run'
	@echo 'make test-all     the same, and the tests that take long'
	@echo 'make lint         formatting, lint and types alone'
	@echo 'make format       put the code in its format'
	@echo 'make docs-tables  write the tables of the documents that follow from the code'
	@echo 'make simulate     SEEDS=20 NODES=3 JOBS=2: whole clusters, each in one process; SEED=7 replays one'
	@echo 'make bench        measurements'
	@echo 'make toxiproxy    the proxy that the network faults of the tests go through (needs Go)'
	@echo 'make clean        remove .venv and what builds and tests left'

venv: .venv/.ready

.venv/.ready: setup.cfg
	$(call title,Python environment (.venv))
	@command -v $(PYTHON) >/dev/null || { \
		echo '$(PYTHON) is not there. Install Python 3.11 or newer, or name one: make venv PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		f"raftmail needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]} ({sys.executable}). Name another: make venv PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make environments. On Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: venv
	@$(WITH_BIN) $(BIN)/raftmail demo

test: venv toxiproxy format-check ruff types unit simulate-share chaos-short
	$(call title,All passed)

# What takes longer, besides: `make test` has everything that is likely to find a fault.
test-all: test unit-long
	$(call title,The long ones passed, too)

lint: venv format-check ruff types

format-check: venv
	$(call title,Format)
	@$(BIN)/ruff format --check $(CODE)

ruff: venv
	$(call title,Lint)
	@$(BIN)/ruff check $(CODE)

types: venv
	$(call title,Types (mypy --strict))
	@$(BIN)/mypy $(CODE)

unit: venv
	$(call title,Tests and the rules of the repository)
	@$(WITH_BIN) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long"

unit-long: venv
	$(call title,Long tests)
	@$(WITH_BIN) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long

simulate: venv
	$(call title,Simulator)
	@$(BIN)/python -m tests.simulation --nodes $(NODES) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) $(if $(JOBS),--jobs $(JOBS)))

# New seeds every time; the first is printed, and a failing one with the command that runs it again.
simulate-share: venv
	$(call title,Simulator ($(SIMULATE_SECONDS) s of new seeds))
	@$(BIN)/python -m tests.simulation --seconds-budget $(SIMULATE_SECONDS)

chaos-short: venv toxiproxy
	$(call title,Chaos on real processes ($(CHAOS_SECONDS) s))
	@$(WITH_BIN) $(BIN)/raftmail chaos run --seconds $(CHAOS_SECONDS)

bench: venv
	@$(BIN)/python -m bench

format: venv
	@$(BIN)/ruff check --select I --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

# tests/repository tells when one is stale.
docs-tables: venv
	@$(BIN)/python -m tests.repository.generated

# `go install` names the program after its folder (`server`), hence the folder of its own and the move.
toxiproxy: venv
	@if command -v toxiproxy-server >/dev/null || [ -x $(BIN)/toxiproxy-server ]; then exit 0; fi; \
	printf '\n== %s\n' 'Toxiproxy $(TOXIPROXY_VERSION)'; \
	if ! command -v go >/dev/null; then \
		echo 'No Go on PATH, so Toxiproxy cannot be built and the tests of network faults are skipped. On Debian: apt-get install golang-go' >&2; \
		if [ "$${CI:-}" = true ]; then exit 1; fi; exit 0; \
	fi; \
	gobin='$(CURDIR)/.venv/go-bin'; \
	GOBIN="$$gobin" CGO_ENABLED=0 go install github.com/Shopify/toxiproxy/v2/cmd/server@$(TOXIPROXY_VERSION); \
	mv "$$gobin/server" $(BIN)/toxiproxy-server; \
	rmdir "$$gobin"

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
