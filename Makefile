# Everything is made in .venv and build/; `make clean` removes both.

PYTHON ?= python3
HYPERVISOR ?= netns
ARGS ?=
PART ?=
QUICK ?=

BIN := .venv/bin
# The environment is as good as new only for the Python and the place that it was made for.
STAMP := .venv/.complete-$(shell printf '%s' '$(PYTHON) $(CURDIR)' | cksum | cut -d ' ' -f 1)

export HYPERVISOR
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib

.PHONY: help setup programs demo bench bench-programs test lint format clean
.DEFAULT_GOAL := help

help: ## This text
	@echo 'make demo    an elastic group on this machine, on real traffic: build/demo (3 minutes)'
	@echo 'make test    lint, types and all tests (ARGS=... goes to pytest)'
	@echo 'make bench   beside OVN, HAProxy and nginx, in figures: bench/results (20 minutes; PART=, QUICK=1)'
	@echo 'make lint    lint and types alone'
	@echo 'make format  put the code into the shape that make lint asks for'
	@echo 'make setup   what the others do first: programs by apt, the project into .venv'
	@echo 'make clean   remove .venv, build and caches'
	@echo
	@echo 'PYTHON=python3.13 chooses the Python, HYPERVISOR=netns the one that makes nodes.'

setup: $(STAMP)

programs:
	@scripts/install-programs.sh '$(PYTHON)'

$(STAMP): setup.cfg pyproject.toml build-constraints.txt scripts/make-venv.sh | programs
	@scripts/make-venv.sh '$(PYTHON)' '$@'

demo: setup programs
	@$(BIN)/python -m sncontroller.lab.demo $(ARGS)

bench-programs: programs
	@scripts/install-programs.sh '$(PYTHON)' bench-packages.txt

bench: setup programs bench-programs
	@$(BIN)/python -m bench $(PART) $(if $(QUICK),--quick) $(ARGS)

test: setup programs
	@scripts/test.sh $(ARGS)

lint: setup
	@scripts/lint.sh

format: setup
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
