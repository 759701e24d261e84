# Two commands for newcomers: `make demo` and `make test`. CONTRIBUTING.md has the others.
# Needs Python 3.11 or later, make, and a C++ compiler. PYTHON picks another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := pyproject.toml */pyproject.toml models/*/pyproject.toml
# Packages of Debian: git for the demo's history and the tests.
SYSTEM_PACKAGES := git make g++ python3-venv strace systemd
# For building and running the image of the hub in the tests.
SYSTEM_PACKAGES += buildah debootstrap
# For `make clients`. A nodejs from elsewhere brings npm along, and conflicts with Debian's.
SYSTEM_PACKAGES += $(if $(shell command -v npm),,nodejs npm)

# The tests of the node's extra `torch` skip without it, but not in the gate.
TORCH := $(if $(filter true,$(CI)),$(VENV)/.torch)
# Likewise the tests with the real claude and codex, the Yjs clients and Azurite, and what the Node.js
# client is built with, from npm; and with the Python worker of Azure Functions.
ALL_CLIENTS := .clients/.installed .clients/interop/.installed .clients/azurite/.installed \
	.clients/azure-worker/.installed .clients/node-client/.installed
CLIENTS := $(if $(filter true,$(CI)),$(ALL_CLIENTS))

# One process more than there are cores, since many a test waits for a disk or for what it started.
# WORKERS=0 runs one test after another.
WORKERS ?= $(shell expr $$(nproc) + 1)
# Else each of the many processes that tests start would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: demo install hook clients azure contract lock test test-full nightly
.PHONY: check format lint mypy pyright contracts system clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/localmem demo

install: $(VENV)/.install

# The compiled client of the hooks, beside `localmem`, where `localmem install` finds it.
hook: $(VENV)/.install
	@$(BIN)/python -m bench.go_programs $(BIN)

clients: $(ALL_CLIENTS)

test: $(VENV)/.install $(TORCH) $(CLIENTS)
	$(PYTEST)

test-full: $(VENV)/.install $(VENV)/.torch $(ALL_CLIENTS)
	@$(PIP) install --group fuzz
	HYPOTHESIS_PROFILE=nightly $(PYTEST) -m "full or not full" --timeout 3600

# Ten minutes of simulated worlds, other ones every night; what fails is printed with its seed.
SEED ?= $(shell date +%s)
MINUTES ?= 10
nightly: $(VENV)/.demo
	$(BIN)/localmem simulate --swarm-minutes $(MINUTES) --seed $(SEED) --hours 6

# Each by itself, so that `make --jobs=2 check` has them run at once. The longest come first.
check: mypy pyright contracts lint format

format: $(VENV)/.install
	$(BIN)/ruff format --check .

lint: $(VENV)/.install
	$(BIN)/ruff check .

mypy: $(VENV)/.install
	$(BIN)/mypy

pyright: $(VENV)/.install
	$(BIN)/pyright

contracts: $(VENV)/.install
	$(BIN)/lint-imports --no-logo

system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $(SYSTEM_PACKAGES); \
	else \
		echo "Run as root: apt-get install $(SYSTEM_PACKAGES)"; \
	fi

clean:
	rm -rf $(VENV) .clients .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "localmem needs Python 3.11 or later")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install "pip>=25.1" # dependency groups

# Editable, so that a change in the sources needs no new installation.
$(VENV)/.demo: $(SOURCES) | $(VENV)/bin/python
	@echo "installing node and hub"
	@$(PIP) install -e ./protocol -e ./models/minilm -e ./node -e ./hub
	@touch $@

$(VENV)/.install: $(VENV)/.demo
	@echo "installing what tests and benchmarks need"
	@$(PIP) install --group dev
	@touch $@

$(VENV)/.torch: $(VENV)/.install
	@echo "installing torch"
	@$(PIP) install --group torch
	@touch $@

# No lock file: it would name the registry that this machine happens to use.
.clients/.installed: tests/clients/package.json
	@echo "installing claude and codex"
	@mkdir -p .clients
	@cp $< .clients/package.json
	@npm install --prefix .clients --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

.clients/interop/.installed: tests/interop/package.json
	@echo "installing Yjs and y-websocket"
	@mkdir -p .clients/interop
	@cp $< .clients/interop/package.json
	@npm install --prefix .clients/interop --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

# Azure's own Python worker, in an environment of its own: it needs a newer Python than the rest. Without
# one its tests skip, but not in the gate.
WORKER_PIP := .clients/azure-worker/bin/python -m pip --disable-pip-version-check --quiet install
.clients/azure-worker/.installed: tests/azure/worker.in deploy/azure-functions/requirements.txt bench/interpreters.py
	@echo "installing the Python worker of Azure Functions"
	@mkdir -p .clients
	@python=$$($(PYTHON) bench/interpreters.py) || { test "$(CI)" != true; exit; }; \
		"$$python" -m venv --clear $(@D) && \
		$(WORKER_PIP) --require-hashes -r deploy/azure-functions/requirements.txt && \
		$(WORKER_PIP) -r tests/azure/worker.in && touch $@

# What `deploy/azure-functions/README.md` publishes.
AZURE ?= build/azure
azure: $(VENV)/bin/python
	@rm -rf $(AZURE)/*
	@$(PIP) wheel --no-deps --wheel-dir $(AZURE) ./protocol ./hub
	@$(BIN)/python deploy/azure-functions/package.py $(AZURE) $(AZURE)/localmem-hub-azure.zip
	@echo "$(AZURE)/localmem-hub-azure.zip"

.clients/azurite/.installed: tests/azurite/package.json
	@echo "installing Azurite"
	@mkdir -p .clients/azurite
	@cp $< .clients/azurite/package.json
	@npm install --prefix .clients/azurite --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

.clients/node-client/.installed: clients/node/package.json
	@echo "installing what the Node.js client is built with"
	@mkdir -p .clients/node-client
	@cp $< .clients/node-client/package.json
	@npm install --prefix .clients/node-client --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

# What the clients in other languages are held against, from the daemon's own description.
contract: $(VENV)/.install .clients/node-client/.installed
	$(BIN)/python -m localmem_node.daemon.openapi > clients/openapi.json
	.clients/node-client/node_modules/.bin/openapi-typescript clients/openapi.json --output clients/node/src/schema.ts --alphabetize --immutable

# What the image is made of, with hashes. uv resolves for every platform and Python, and names no host.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-package localmem-protocol --custom-compile-command "make lock"
lock: $(VENV)/.install
	@$(PIP) install --group lock
	$(LOCK) --extra postgresql --extra nats --extra metrics hub/pyproject.toml --output-file deploy/docker/requirements.txt
	$(LOCK) --extra azure hub/pyproject.toml deploy/azure-functions/functions.in --output-file deploy/azure-functions/requirements.txt
	$(LOCK) deploy/docker/build.in --output-file deploy/docker/requirements-build.txt
