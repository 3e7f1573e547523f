# make demo and make test work from a fresh clone. An active virtual
# environment is used where tfrecal and its tests can run in it; otherwise
# ./.venv is built first. Works with GNU Make 3.81 (macOS) and later.
ACTIVE := $(VIRTUAL_ENV)$(CONDA_PREFIX)
NEEDS := import tfrecal, pandas, pytest, xdist
ifneq ($(ACTIVE),)
USABLE := $(shell python -c "$(NEEDS)" >/dev/null 2>&1 && echo yes)
endif
ifeq ($(USABLE),yes)
PY := python
else
PY := .venv/bin/python
ENV := .venv/.installed
BENCH := .venv/.bench
endif
TESTS ?= tests
TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_CPP_MIN_LOG_LEVEL

# pip's own lines, thinned out to one for each file that it fetches; a pipe
# hides the exit status, so it is kept in a file.
PIP = { .venv/bin/python -m pip install --disable-pip-version-check \
	--progress-bar off -e $(1); echo $$? > .venv/.status; } \
	| awk '/^ *Downloading|^Installing/ { print "  " $$1 " " $$2; \
	fflush() }'; test "`cat .venv/.status`" = 0

# On macOS tensorflow-recommenders asks for the abandoned tensorflow-macos,
# which no current TensorFlow can stand beside.
ifeq ($(shell uname -s),Darwin)
MAC = .venv/bin/python -m pip install -q --disable-pip-version-check \
	--no-deps tensorflow-recommenders==0.7.7
endif

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   the main job on MovieLens-100K, about 8 minutes"
	@echo "make test   every test that needs nothing from outside"
	@echo "make lint   flake8, isort, the floors of the package"
	@echo "make bench  every benchmark in its quick form"
	@echo "make clean  removes .venv, build files and runs"

.venv/.installed: setup.cfg
	@echo "building .venv with the pinned stack, 3 GB on disk;" \
	  "one to five minutes ..."
	@.venv/bin/python -m pip --version >/dev/null 2>&1 \
	  || python3 -m venv --clear .venv
	@$(call PIP,".[test]")
	@$(MAC)
	@touch $@

# A comma in a call would end the argument.
WITH_PEERS := ".[test,bench]"
.venv/.bench: .venv/.installed
	@echo "adding the libraries to compare with ..."
	@{ $(call PIP,$(WITH_PEERS)); } && touch $@ \
	  || echo "not all can be installed here; they are left out"

demo: $(ENV)
	@$(PY) -m tfrecal demo

test: $(ENV)
	@$(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder \
	  -m "not serving" $(TESTS)

lint: $(ENV)
	@$(PY) -m flake8 tfrecal tests benchmarks serving
	@$(PY) -m isort --check-only -q tfrecal tests benchmarks serving
	@$(PY) -c "import sys; from importlinter.cli import lint_imports; \
	  sys.exit(lint_imports())"

# Helper modules do not say in their docstring that they are run like this.
bench: $(ENV) $(BENCH)
	@for script in `grep -l "python benchmarks/.*--quick" benchmarks/*.py`; do \
	  echo "== $$script"; start=`date +%s`; \
	  $(PY) $$script --quick || exit 1; \
	  echo "   $$((`date +%s` - start)) s"; done

clean:
	rm -rf .venv build *.egg-info runs
