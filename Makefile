# make demo | test | test-all | lint: each makes .venv first where it is missing or out of date.
# PYTHON=... picks the interpreter that .venv is made with; OMP_NUM_THREADS is left to the caller.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint format venv clean-venv

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3)

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## pretrain on real scans and texts, count the labels saved, write runs/demo/report.html
	$(BIN)/fewlabel run domain --config configs/domain/demo.yaml

test: $(VENV)/.installed ## the default suite, on the CPU
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.installed ## the slow tests too
	$(BIN)/python -m pytest

lint: $(VENV)/.installed ## ruff and mypy, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## ruff, changing files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(VENV)/.installed ## only the virtual environment

clean-venv: ## remove it
	rm -rf $(VENV)

# The stamp comes last, so an installation that was cut off is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(CANDIDATES); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	    python=; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "fewlabel needs Python 3.11 or newer; tried: $(CANDIDATES). Install one or say make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$python --version)"; \
	  $$python -m venv $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[dev,external,ray,text]'
	@# Its dependencies bring torchvision, and are not used here.
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt --no-deps dynamic-network-architectures
	@touch $@
