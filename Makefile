# Everything a fresh machine with Python and git needs. `make demo` and `make test` set up what they use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
REPRODUCE_ARGS ?=
FUZZ_SECONDS ?= 60
# one worker a core, one thread a worker: threads of two workers would wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.DEFAULT_GOAL := help
.PHONY: help demo examples-setup test test-all mutants fuzz reproduce lint format clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cifar-export needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,openvino,opencv,sign,tensorboard]'
	@touch $@

demo: $(VENV)/.installed  ## set up, export a bundled network to ONNX and show its parity table
	$(BIN)/cifar-export onnx resnet20 --dataset cifar100
	$(BIN)/cifar-export parity resnet20 --dataset cifar100

examples-setup:  ## as root on Debian: install what the tests of examples/ need besides Python
	tools/setup_examples.sh

test: $(VENV)/.installed  ## set up and run the tests (all but the slow ones)
	@tools/setup_examples.sh --npm
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: $(VENV)/.installed  ## run every test that this machine can
	@tools/setup_examples.sh --npm
	$(PYTEST) $(PYTEST_ARGS)

mutants: $(VENV)/.installed  ## plant faults in a copy of the tree; the tests must notice each
	$(BIN)/python tools/mutants.py

reproduce: $(VENV)/.installed  ## rebuild RELEASE=DIR from its commit and compare every file
	@test -n "$(RELEASE)" || { echo "Name one: make reproduce RELEASE=artifacts/releases/1.0.0" >&2; exit 2; }
	$(BIN)/python tools/reproduce.py "$(RELEASE)" $(REPRODUCE_ARGS)

fuzz: $(VENV)/.installed  ## let every fuzzer look for FUZZ_SECONDS (60) for bytes that a parser does not survive
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris
	@set -e; for file in fuzz/*.py; do test $$file = fuzz/harness.py || { echo "== $$file"; \
		$(BIN)/python $$file -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; }; done

lint: $(VENV)/.installed  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/types && ln -sfn ../../exporter build/types/cifar_export
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## put the sources into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built, but not what was trained or exported
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
