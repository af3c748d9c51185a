# `make demo`, `make test` and `make check` set up .venv by themselves, once, and again when
# pyproject.toml or constraints.txt change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
WORKERS ?= 2
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
INSTALL = $(PIP) install --quiet -c constraints.txt $(PIP_ARGS)

.PHONY: help setup setup-dev demo test check format bench bench-long constraints clean
.DEFAULT_GOAL := help

help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Debian's python3 may lack ensurepip (package python3-venv): the system's pip then fills the venv.
$(BIN)/python:
	@echo "Setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null >&2 || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

# torch comes first and from the constraints, so that nothing else can choose its build.
$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hocket and what it needs (a few minutes, once)"
	@$(INSTALL) torch
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "Installing what tests and checks need"
	@$(INSTALL) -e '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## Set up .venv with hocket in it
setup-dev: $(VENV)/.ready-dev ## The same, with the tools of development

demo: $(VENV)/.ready ## Speak a corpus, train on it, recognise unseen voices, score (WORKERS=2)
	$(BIN)/hocket demo --workers $(WORKERS)

test: $(VENV)/.ready-dev ## Run all tests, JOBS=2 files at a time (ARGS="-k name" for some)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/.ready-dev ## Lint, format, types and floors, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-dev ## Run the short benchmarks: benchmarks/*.py (status 3: not possible here, and says why)
	@for script in $(wildcard benchmarks/*.py); do echo "== $$script"; \
		$(BIN)/python $$script; status=$$?; [ $$status -eq 0 ] || [ $$status -eq 3 ] || exit 1; done

bench-long: bench ## Run all benchmarks: benchmarks/long/*.py and benchmarks/trainer_peer as well
	@for script in $(wildcard benchmarks/long/*.py) benchmarks/trainer_peer; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

constraints: $(VENV)/.ready-dev ## Write constraints.txt anew from what is installed
	@sed -n '/^#/p' constraints.txt > constraints.new
	@$(PIP) freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' >> constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
