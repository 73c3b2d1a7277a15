# `make demo` and `make test` set up what they need by themselves: Python 3.11 or newer and make do.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
SECONDS ?= 300

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench soak fuzz clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make .venv with chargen in it: .venv/bin/chargen

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "chargen needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@echo "Installing chargen and TensorFlow into $(VENV); this takes a minute or two."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## Train on the fables for a minute, then write text
	@$(BIN)/chargen train corpora/fables.txt --budget 1m --output demo.keras --force
	@$(BIN)/chargen generate --model demo.keras --seed "The quick " --length 400 --temperature 0.5

test: $(STAMP)  ## Run the tests
	@$(BIN)/python -m pytest -q -n $(WORKERS)

check: $(STAMP)  ## Format, lint, types and tests: what CI runs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

format: $(STAMP)  ## Format the code in place
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: $(STAMP)  ## Run the benchmarks, with a table each (minutes)
	@for file in tests/benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

soak: $(STAMP)  ## Stop, kill and starve training runs, and resume them (minutes)
	@$(BIN)/python tests/soak.py

fuzz: $(STAMP)  ## Spoil model files and resume states for SECONDS, or RUNS times (5 minutes)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@$(BIN)/python tests/fuzz.py $(if $(RUNS),--runs $(RUNS),--seconds $(SECONDS))

clean:  ## Remove what make made: .venv, caches, the demo's model
	@rm -rf $(VENV) demo.keras demo.keras.resume .fuzz .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
