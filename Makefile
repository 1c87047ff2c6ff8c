# Every target bootstraps .venv when it is missing or older than the files that describe it.
# KAPPA_PIP_ARGS is passed on to pip (a CPU or CUDA index of your choice, for example).
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup figures ledger report test matrix lint bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Kappa needs Python >= 3.10; say which with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install -q $(KAPPA_PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## Create .venv from pyproject.toml and constraints.txt

figures: $(STAMP)  ## Make what is missing and cheap, draw figures/ (ONLY=name,name FRESH=1 SCALE=small)
	$(PY) -m scripts.figures $(if $(ONLY),--only $(ONLY)) $(if $(FRESH),--fresh) \
		$(if $(SCALE),--scale $(SCALE))

ledger: $(STAMP)  ## Judge every claim of the papers from the records, and write REPRODUCTION.md
	-$(PY) -m scripts.missing
	$(PY) -m analysis.ledger

report: $(STAMP)  ## Write figures, ledger, runs and statistics into one page, report/kappa.html
	-$(PY) -m scripts.missing
	$(PY) -m analysis.report

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
