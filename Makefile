# Everything a newcomer, a developer and CI run. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Without its compiled modules every test process would compile the repository and rewrite its assertions anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
MUSIC  := $(VENV)/.music21
NODE_STAMP := node_modules/.package-lock.json

.PHONY: help setup up test faults kills odd docker-test dashboards check lint types unit docs bench lock clean demo demo-test mert-test

help:  ## list what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the mess command in it

$(STAMP): pyproject.toml client/pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "MESS-AI needs Python 3.11 or later; this is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV): pinned packages, a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
	  --editable ./client --editable .
	@touch $(STAMP)

# In the same environment, whose locks agree. Without it everything works, and the page says what is missing.
$(MUSIC): $(STAMP) requirements-demo.lock
	@echo "Adding music21, from whose corpus works are heard: half a minute the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements-demo.lock
	@touch $@

up: setup  ## run the whole pipeline on the demo catalogue (Ctrl-C stops it)
	@$(MAKE) -s $(MUSIC) || echo "music21 cannot be installed: works can be seen, and not be heard"
	@$(BIN)/mess up $(ARGS)

# Three processes: these tests wait for services more than they compute. A file stays on one, with its services. Importing
# the unit tests, only to leave them out, took each process 3 s.
test: setup  ## every test: lint, types, unit, contract, integration, end to end
	@$(MAKE) --no-print-directory check EXAMPLES=all
	@$(BIN)/python -m pytest -m "not unit and not mert" --ignore=tests/unit -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# FAULT_SEEDS=1-20 or 3,17 says which; FAULT_SEED=17 plays one again; FAULT_AWAY_SECONDS=60 is the longest outage.
FAULT_SEEDS ?= 1-20

faults: setup  ## the long fault scenarios: minutes a seed (FAULT_SEEDS=1-20)
	@FAULT_SEEDS=$(or $(FAULT_SEED),$(FAULT_SEEDS)) $(BIN)/python -m pytest -m faults tests/faults $(ARGS)

odd: setup  ## publish odd messages and account for every one (ARGS='--messages 1000000 --seed 2')
	@$(BIN)/python -m tests.faults.odd $(ARGS)

# KILLS=20 for fewer, WORKERS=3 for that number alone.
KILLS ?= 200
WORKERS ?= 2,3

kills: setup  ## 200 kills over two and three workers, in histories of 25, each compared with its log
	@$(BIN)/python -m tests.faults.kills --kills $(KILLS) --workers $(WORKERS) $(ARGS)

docker-test: setup  ## try the production stack in containers: build, publish, kill, back up, restore (30 minutes, Docker)
	@docker/test/run.sh $(ARGS)

dashboards: setup  ## write Grafana's dashboards again
	@$(BIN)/python docker/grafana/build.py

check: setup  ## the inner loop: lint, types, unit tests, side by side
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint types unit

# Wrapped by mdformat; the others are written by `make docs` and by a test.
PAGES := $(shell git ls-files '*.md' ':!docs/inputs.md' ':!docs/reference')
PAGES_STAMP := $(VENV)/.pages

# Those that changed since they were last found wrapped; all, after a change of what wraps them.
$(PAGES_STAMP): $(STAMP) .mdformat.toml $(PAGES)
	@$(BIN)/mdformat --check $(filter %.md,$(if $(filter-out %.md,$?),$^,$?))
	@touch $@

lint: setup $(PAGES_STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

types: setup
	@$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) -s $(NODE_STAMP) && npm run --silent types; \
	  elif [ "$(CI)" = true ]; then echo "npm is missing: it brings the compiler that checks the page's scripts"; exit 1; \
	  else echo "NOT CHECKED: the types of the page's scripts, for want of npm"; fi

$(NODE_STAMP): package.json package-lock.json
	@npm ci --silent --no-audit --no-fund && touch $@

# Properties are tried with a quarter of their examples here, with all of them by `make test`.
EXAMPLES ?= quarter

unit: setup
	@MESS_TEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -m unit -n 2 $(or $(ARGS),tests/unit)

docs: setup  ## wrap the docs, write the reference pages anew, and make a site in site/; a broken link fails
	@$(BIN)/mdformat $(PAGES)
	@$(BIN)/python -m tools.reference
	@$(BIN)/zensical build --strict

bench: setup  ## the benchmarks, a table each
	@$(BIN)/python -m benchmarks $(ARGS)

# The client is of this repository, and installed beside the locks.
LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-package mess-client --custom-compile-command "make lock"

lock:  ## pin dependencies again from pyproject.toml (needs uv)
	@uv pip compile $(LOCKING) pyproject.toml --extra tracing --extra aws -o requirements.lock
	@uv pip compile $(LOCKING) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	@uv pip compile $(LOCKING) pyproject.toml --group dev --extra demo-build -c requirements-dev.lock -o requirements-demo.lock
	@uv pip compile $(LOCKING) pyproject.toml --group bench -c requirements-dev.lock -o requirements-bench.lock
	@uv pip compile $(LOCKING) --group mert -o requirements-mert.lock
	@uv pip compile $(LOCKING) --group faust-build -o requirements-faust-build.lock

demo-test: $(MUSIC)  ## the tests of the demo catalogue's builder and of its incipits, with music21
	@$(BIN)/python -m pytest -q tools/demo_catalogue tests/unit/demo/test_parse.py tests/unit/incipits --timeout-method=thread

# In an environment of its own, over the distribution's Python and its torch: Debian's and Ubuntu's python3-torch.
MERT_PYTHON ?= /usr/bin/python3
MERT := .venv-mert

$(MERT)/.installed: requirements-mert.lock
	@$(MERT_PYTHON) -c 'import torch, venv, ensurepip' || \
	  { echo "$(MERT_PYTHON) has no torch, or no venv. On Debian or Ubuntu: apt-get install python3-torch python3-venv"; exit 1; }
	@echo "Setting up $(MERT)"
	@$(MERT_PYTHON) -m venv --system-site-packages $(MERT)
	@$(MERT)/bin/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements-mert.lock
	@touch $@

# The others' warnings are of 2022; a plugin of the distribution's is of no use here.
mert-test: $(MERT)/.installed  ## the tests of MERT, with the distribution's torch and a transformers of its time
	@$(MERT)/bin/python -m pytest -q -m mert --noconftest -p no:hypothesispytest -o filterwarnings=default tests/mert $(ARGS)

demo: $(MUSIC)  ## build the demo catalogue again from the music21 corpus (about 20 minutes)
	@$(BIN)/python -m tools.demo_catalogue --out mess/demo/data --jobs $(shell nproc)

clean:  ## remove the virtual environment, caches and the local stack's data
	@rm -rf $(VENV) $(MERT) node_modules .mess site .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
