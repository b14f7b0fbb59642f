# Everything is made in .venv and build/; `make clean` removes both.

PYTHON ?= python3
HYPERVISOR ?= netns
ARGS ?=
PART ?=
QUICK ?=
JOBS ?= 3

BIN := .venv/bin
# The environment is as good as new only for the Python and the place that it was made for.
STAMP := .venv/.complete-$(shell printf '%s' '$(PYTHON) $(CURDIR)' | cksum | cut -d ' ' -f 1)

export HYPERVISOR JOBS
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib

.PHONY: help setup programs demo simulate bench bench-programs test lint format clean
.DEFAULT_GOAL := help

help: ## This text
	@echo 'make demo    an elastic group on this machine, on real traffic: build/demo (3 minutes)'
	@echo '             HYPERVISOR=libvirt: its nodes are virtual machines'
	@echo 'make simulate  scaling policies on days of load, no switch: build/simulate (2 minutes)'
	@echo 'make test    lint, types and all tests (ARGS=... goes to pytest, JOBS=3 processes)'
	@echo 'make bench   beside OVN, HAProxy and nginx, in figures: bench/results (20 minutes; PART=, QUICK=1)'
	@echo 'make lint    lint and types alone'
	@echo 'make format  put the code into the shape that make lint asks for'
	@echo 'make setup   what the others do first: programs by apt, the project into .venv'
	@echo 'make clean   remove .venv, build and caches'
	@echo
	@echo 'PYTHON=python3.13 chooses the Python, HYPERVISOR=netns|libvirt what makes nodes.'

setup: $(STAMP)

# The demo needs the programs of its own hypervisor; everything else those of all.
NEEDED_FOR := $(if $(filter-out demo,$(MAKECMDGOALS)),,$(HYPERVISOR))

programs:
	@scripts/install-programs.sh '$(PYTHON)' $(NEEDED_FOR)

$(STAMP): setup.cfg pyproject.toml build-constraints.txt scripts/make-venv.sh | programs
	@scripts/make-venv.sh '$(PYTHON)' '$@'

demo: setup programs
	@$(BIN)/python -m sncontroller.lab.demo $(ARGS)

simulate: setup
	@$(BIN)/sncontroller simulate --runs 3 --output build/simulate
	@$(BIN)/python scripts/put_table.py build/simulate/table.md README.md

bench-programs: programs
	@scripts/install-programs.sh '$(PYTHON)' '' bench-packages.txt

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
