# Every task of the workshop. Each target first installs what is missing into .venv, from a bare python3.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PEERS := .venv-peers/.installed

# Two workers: each starts its own PostgreSQL and Temporal, so more need more cores and memory, not only time.
TEST_OPTIONS ?= -n 2 --dist worksteal
TESTS ?=
DEMO_ARGS ?=
BENCHMARKS := spine door control router evidence

.PHONY: help demo test check bench chaos up docs format lock peers clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/\1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(INSTALLED) ## show the platform at work on this repository (DEMO_ARGS="--repo PATH --yes")
	@$(BIN)/agentos demo $(or $(DEMO_ARGS),--yes)

up: $(INSTALLED) ## start the platform here, skills reading and writing this checkout only (agentos down stops it)
	@AGENTOS_RUN_ROOTS="$${AGENTOS_RUN_ROOTS:-$(CURDIR)}" $(BIN)/agentos up

test: $(INSTALLED) ## run the tests (TESTS="tests/kernel -k clock" for some)
	@sh tools/debian.sh
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m pytest $(TEST_OPTIONS) $(TESTS)

check: $(INSTALLED) ## format, lint, types, import contracts, and the lock against pyproject.toml
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/uv pip check --python $(BIN)/python

format: $(INSTALLED) ## rewrite the code in the one format, and fix what can be fixed safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED) ## write docs/reference again from the code
	@$(BIN)/python -m agentos.apps.reference docs/reference

bench: $(BENCHMARKS:%=bench-%) ## run every benchmark; bench-NAME runs one

bench-%: $(INSTALLED) peers
	@$(BIN)/python -m benchmarks.$*

chaos: $(INSTALLED) ## kill services at random while runs go on, and count what was lost or doubled
	@$(BIN)/python -m benchmarks.chaos

# The benchmarks show a peer that is not there as missing, so a failure here must not stop them.
peers: $(INSTALLED)
	@[ $(PEERS) -nt benchmarks/peers.txt ] || { \
	    { [ -x .venv-peers/bin/python ] || $(BIN)/uv --quiet venv --python $(BIN)/python .venv-peers; } && \
	    $(BIN)/uv --quiet pip install --python .venv-peers/bin/python --require-hashes -r benchmarks/peers.txt && \
	    touch $(PEERS); } || echo "the benchmarks' peers could not be installed; they are shown as missing" >&2

# Locks name versions and hashes for every platform, and no address: they are fetched from wherever the machine fetches.
COMPILE = $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(INSTALLED) ## resolve the dependencies again (LOCK_OPTIONS=--upgrade for the newest)
	$(COMPILE) $(LOCK_OPTIONS) pyproject.toml --group dev --output-file requirements.txt
	$(COMPILE) $(LOCK_OPTIONS) tools/uv.in --output-file tools/uv.txt
	$(COMPILE) $(LOCK_OPTIONS) benchmarks/peers.in --output-file benchmarks/peers.txt

clean: ## remove what was installed and built; .agentos, the platform's data, stays
	rm -rf .venv .venv-peers build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp that names another place belongs to another checkout (see tools/install.sh).
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): requirements.txt tools/uv.txt tools/install.sh tools/prerequisites.sh pyproject.toml
	@sh tools/install.sh $(PYTHON)
