# `make demo` and `make test` need nothing but Python and make; both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
LOCK ?= locks/main.txt
TESTS ?=
BENCH ?= --write
BROWSER ?=
MUTANTS ?=
DAY ?= 10
F ?=
BIN := $(VENV)/bin
# One worker more than cores, since many tests wait for a moment.
PYTEST = $(BIN)/python -m pytest -n $(shell echo $$(($$($(PYTHON) -c 'import os; print(os.cpu_count())') + 1))) --dist worksteal

PIP = $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps

.PHONY: help demo demo-ui chaos ui check test test-slow test-faults test-all test-browser mutants bench scoreboard
.PHONY: test-server image lint lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# A stamp keeps set-up to once per lock file; the install is exactly what the lock says. uv is five
# times as fast as pip, but does not know pip's settings: where those are needed, pip goes on.
$(VENV)/.ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	  || { echo "incident_assets needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) comes without venv: install it (Debian: apt install python3-venv) and run make again"; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' $(LOCK) | $(PIP) --require-hashes -r /dev/stdin
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --no-deps --require-hashes \
	  -r $(LOCK) 2>/dev/null || $(PIP) --require-hashes -r $(LOCK)
	@$(PIP) --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready  ## Load everything once from the bundled API; no key, no network
	@$(BIN)/python -m incident_assets demo

demo-ui: $(VENV)/.ready  ## Open the UI on the demo; a day of it passes in 10 minutes, or DAY=2
	@$(BIN)/python -m incident_assets demo ui --day-minutes $(DAY)

chaos: $(VENV)/.ready  ## Break something in the UI's demo and heal it: F=403; without F, what there is
	@$(BIN)/python -m incident_assets demo chaos $(F)

# There `dg` finds dagster.yaml, and with it that no telemetry leaves; it looks nowhere else. The
# other one keeps Dagster from making folders for it all the same.
ui: export DAGSTER_HOME := $(CURDIR)
ui: export DAGSTER_DISABLE_TELEMETRY := 1
ui: $(VENV)/.ready  ## Open the UI on your own settings (.env)
	@echo "The Dagster UI comes up at http://127.0.0.1:3000 in a few seconds (Ctrl-C stops it)"
	@umask 077; $(BIN)/dg dev --no-check-yaml --log-level warning

check: $(VENV)/.ready  ## Say whether your account, key and database are ready
	@$(BIN)/python -m incident_assets check

test: $(VENV)/.ready  ## Run the tests
	@$(PYTEST) $(TESTS)

test-slow: $(VENV)/.ready  ## Run those that start whole processes, or take long otherwise; CI does
	@$(PYTEST) -m slow $(TESTS)

test-faults: $(VENV)/.ready  ## Run what goes wrong, and print the table of docs/reliability.md
	@$(PYTEST) -m 'fault and not long'

test-all: $(VENV)/.ready  ## Run the tests with their long forms, such as 40 kills, then the mutants
	@$(PYTEST) -m 'not browser and not server'
	@$(MAKE) --no-print-directory mutants

# In one process, since all of them look at one Dagster.
test-browser: $(VENV)/.ready  ## Look at the UI in chromium; BROWSER=--pictures: take those of docs/
	@$(BIN)/python -m pytest -m browser incident_assets_tests/browser $(BROWSER)

# In one process too; with VENV=.venv-lake LOCK=locks/lake.txt, and PostgreSQL (Debian: postgresql).
test-server: $(VENV)/.ready  ## Start a server as deploy/ does, kill its parts, look at what comes of it
	@$(BIN)/python -m pytest -m server incident_assets_tests/deploy

image:  ## Build a server's image on a base of Debian's packages, and try it; as root
	@deploy/image.sh

# With VENV=.venv-lake LOCK=locks/lake.txt, and PostgreSQL, bugs of the lake are noticed too.
mutants: $(VENV)/.ready  ## Put 60 small bugs into copies of the code; the tests have to notice
	@$(BIN)/python -m incident_assets_tests.mutants $(MUTANTS)

bench: $(VENV)/.ready  ## Measure beside bare dlt and a hand-written floor, hours; BENCH=--quick: minutes
	@$(BIN)/python -m benchmarks $(BENCH)

scoreboard: $(VENV)/.ready  ## Other tools and ours through the same faults, a quarter of an hour
	@$(BIN)/python -m benchmarks.scoreboard --write

lint: $(VENV)/.ready  ## Ruff, mypy, and which room may import which
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo --no-cache

COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade
OURS = pyproject.toml --extra dev

lock: $(VENV)/.ready  ## Refresh the lock files
	@$(COMPILE) $(OURS) -o locks/main.txt
	@echo 'duckdb<2' | $(COMPILE) $(OURS) --extra pandas --constraints - -o locks/duckdb-1.5.txt
	@$(COMPILE) $(OURS) --extra embedded-elt -o locks/embedded-elt.txt
	@$(COMPILE) $(OURS) --extra lake --extra deploy -o locks/lake.txt
	@echo 'setuptools>=77' | $(COMPILE) pyproject.toml --extra lake --extra deploy - -o locks/deploy.txt
	@printf 'airbyte-cdk\nsinger-sdk\n' | $(COMPILE) - -o locks/scoreboard.txt

clean:  ## Remove environments and data of the demo; your own data stays
	@rm -rf .venv* data/demo
