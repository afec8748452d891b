# Every target sets up what it needs: a virtual environment with the versions of requirements.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RTX    := $(VENV)/.rtx-ready

# The models and images that some tests use; without it those tests are skipped and say so.
export PARTC_DATA ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-rtx test-slow lint types bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the virtual environment with pinned dependencies

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "partc needs Python 3.11 or later; call make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## compile MobileNetV2 for a camera and a server, and run it on both
	$(BIN)/python -m examples.demo

test: $(READY) ## run the test suite
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-rtx: $(RTX) ## run the tests that build TensorRT-RTX engines, after installing it (100 MB)
	$(BIN)/python -m pytest tests/targets/tensorrt tests/targets/tensorrt_rtx tests/engines --timeout 1800 $(ARGS)

$(RTX): $(READY) requirements-rtx.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-rtx.lock
	@touch $@

test-slow: $(READY) ## run the tests that take longer
	$(BIN)/python -m pytest -m slow --timeout 1800 $(ARGS)

lint: $(READY) ## check style and import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types
	$(BIN)/mypy

bench: $(READY) ## run the benchmarks whose figures README and docs show
	$(BIN)/python -m benchmarks.compile
	$(BIN)/python -m benchmarks.runtime
	$(BIN)/python -m benchmarks.solve

docs: $(READY) ## write the generated pages of docs/
	$(BIN)/python -m docs.generate

clean: ## remove what was built, and the virtual environment
	rm -rf $(VENV) build dist demo-out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
