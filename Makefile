# make demo and make test work from a fresh clone: without an active virtual
# environment they build ./.venv first.
ifneq ($(VIRTUAL_ENV)$(CONDA_PREFIX),)
PY := python
ENV :=
else
PY := .venv/bin/python
ENV := .venv/.installed
endif
TESTS ?= tests
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   the main job on MovieLens-100K, about 8 minutes"
	@echo "make test   every test that needs nothing from outside"
	@echo "make lint   flake8 and isort"
	@echo "make bench  every benchmark in its quick form"

.venv/.installed: setup.cfg
	@echo "building .venv with the pinned stack (one to five minutes) ..."
	@test -x .venv/bin/python || python3 -m venv .venv
	@.venv/bin/python -m pip install -q --disable-pip-version-check -e ".[test]"
	@touch $@

demo: $(ENV)
	@$(PY) -m tfrecal.cli demo

test: $(ENV)
	$(PY) -m pytest -n 2 --dist loadscope $(TESTS)

lint: $(ENV)
	$(PY) -m flake8 tfrecal tests benchmarks
	$(PY) -m isort --check-only -q tfrecal tests benchmarks

bench: $(ENV)
	@for script in benchmarks/*.py; do \
	  echo "== $$script"; $(PY) $$script --quick || exit 1; done

clean:
	rm -rf .venv build *.egg-info runs
