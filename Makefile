# Every target bootstraps .venv when it is missing or older than the files that describe it.
# KAPPA_PIP_ARGS is passed on to pip (a CPU or CUDA index of your choice, for example).
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup figures test matrix lint bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Kappa needs Python >= 3.10; say which with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install -q $(KAPPA_PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## Create .venv from pyproject.toml and constraints.txt

figures: $(STAMP)  ## Run what is missing, draw every figure into figures/ (FRESH=1: run all again)
	$(PY) -m scripts.figures $(if $(FRESH),--fresh)

test: $(STAMP)  ## Run the tests (set KAPPA_DATA for those on real data)
	KAPPA_OFFLINE=1 $(PY) -m pytest

matrix: $(STAMP)  ## Run every optimizer on every task for a few steps, and write docs/matrix.md
	$(PY) -m scripts.matrix

lint: $(STAMP)  ## Check style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: $(STAMP)  ## Measure speed and memory against the stated targets
	$(PY) -m scripts.bench

clean:  ## Remove .venv and caches; records and figures stay
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
