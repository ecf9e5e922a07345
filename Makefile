# Each target makes what it needs: nothing has to be installed before, except Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
# Windows puts the programs of a virtual environment elsewhere
BIN := $(if $(filter Windows_NT,$(OS)),$(VENV)/Scripts,$(VENV)/bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs

.PHONY: demo test quick faults lint format bench docs clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "infdehaze needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(READY): $(RUNTIME)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(DOCS): $(RUNTIME)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(RUNTIME)  ## make a hazy landscape, clean it, draw before and after
	$(BIN)/infdehaze demo --output demo

test: lint  ## everything
	$(BIN)/python -m pytest -n 2

quick: $(READY)  ## the tests that take less than a minute together
	$(BIN)/python -m pytest -n 2 -m "not slow"

faults: $(READY)  ## kills, signals, damage and full disks, as often as docs/reliability.md says
	INFDEHAZE_FAULTS=long $(BIN)/python -m pytest tests/faults -s

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(RUNTIME)  ## wall time beside a bare forward pass
	$(BIN)/infdehaze bench speed

docs: $(DOCS)  ## the site, with every link checked; nothing is fetched
	$(BIN)/python -m mkdocs build
	@echo "Open site/index.html"

clean:
	rm -rf $(VENV) demo site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
