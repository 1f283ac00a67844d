# make demo   the main job on MovieLens 100K: compare, explain, save, report
# make test   everything that CI runs; what is left out for want of a tool (PostgreSQL, Chromium) is named at the end
# make docs   the documentation, into docs/_build/html
# make audit  known vulnerabilities of the pinned dependencies (needs PyPI's list; PALATE_AUDIT=required fails without it);
#             AUDIT_ARGS=--record keeps a clean audit, for networks without the list
# make claims every claim, from its data to its verdict (long)
# make bench  every benchmark, beside its peers where they are installed (long)
#
# PYTHON chooses the interpreter (3.11 or newer); TORCH_ARGS is passed to the pip call that installs torch.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
TORCH_ARGS ?=
PYTEST_ARGS ?=
AUDIT_ARGS ?=

export PYTHONUTF8 = 1

.PHONY: demo test lint unit docs audit claims bench clean

demo: $(VENV)/.user
	$(BIN)/palate demo

test: $(VENV)/.dev
	$(MAKE) -j 2 lint docs
	$(MAKE) unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=claims $(BIN)/mypy claims/*.py
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks/*.py
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

audit: $(VENV)/.dev
	$(BIN)/python .ci/audit.py $(AUDIT_ARGS)

unit: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist worksteal --ignore tests/distributed $(PYTEST_ARGS)
	$(BIN)/pytest tests/distributed $(PYTEST_ARGS)

claims: $(VENV)/.dev
	$(BIN)/palate claims run --all

bench: $(VENV)/.dev
	$(BIN)/palate bench --all

clean:
	rm -rf $(VENV) test-output docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.base: constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV) || { echo "This Python can't make a virtual environment (on Debian: apt install python3-venv)."; exit 1; }
	$(PIP) install -c constraints.txt pip
	$(PIP) install -c constraints.txt $(TORCH_ARGS) torch
	@touch $@

$(VENV)/.user: $(VENV)/.base pyproject.toml
	$(PIP) install -c constraints.txt -e ".[all]"
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	$(PIP) install -c constraints.txt -e ".[dev,docs]"
	@touch $@
