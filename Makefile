# What can be done here; `make help` says it.

PYTHON ?= python3
VENV ?= .venv
# Where `make demo` runs its rows: local, or slurm where sbatch works (see `make cluster`).
BACKEND ?= local
# How many processes the tests are spread over: more than two processors, since many tests wait.
WORKERS ?= 5
# More options for pytest, such as PYTEST_OPTIONS='-k retry'.
PYTEST_OPTIONS ?=
# More options for `make bench`, such as BENCH_OPTIONS='--lines rows --repeat 1'.
BENCH_OPTIONS ?=

BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench cluster cluster-stop

help: ## say what can be done
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) BACKEND=$(BACKEND) WORKERS=$(WORKERS) PYTEST_OPTIONS=$(PYTEST_OPTIONS)"

demo: $(VENV)/.demo ## tune a model over a table of settings, on BACKEND
	$(BIN)/python examples/tune_boosting.py --backend $(BACKEND)

# All checks run, whatever the first says; the end tells whether any failed.
test: $(VENV)/.dev ## run all checks: lint, types, tests on a real Slurm that they start, and in a browser
	@$(BIN)/python -m tests.slurm_cluster install || echo "*** Going on without a Slurm."
	@$(BIN)/python -m tests.browser install || echo "*** Going on without a browser."
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_OPTIONS) || status=1; \
	exit $$status

lint: $(VENV)/.dev ## run ruff and mypy
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy || status=1; \
	exit $$status

docs: $(VENV)/.dev ## build the documentation into build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs -d build/doctrees . build/docs
	@echo "open build/docs/index.html"

bench: $(VENV)-bench/.stamp ## measure against the peers, half an hour; writes docs/benchmarks.md
	@$(PYTHON) -m tests.slurm_cluster install
	$(VENV)-bench/bin/python -m benchmarks $(BENCH_OPTIONS)

cluster: ## start a Slurm of four nodes on this machine, to try things on
	@$(PYTHON) -m tests.slurm_cluster install
	@$(PYTHON) -m tests.slurm_cluster start

cluster-stop: ## end it
	@$(PYTHON) -m tests.slurm_cluster stop

# The peers have an environment of their own: they bring much with them.
$(VENV)-bench/.stamp: pyproject.toml tools/setup_venv.sh benchmarks/requirements.txt
	tools/setup_venv.sh $(PYTHON) $(VENV)-bench demo
	$(VENV)-bench/bin/python -m pip --disable-pip-version-check install --quiet -r benchmarks/requirements.txt
	@touch $@

# The environments: one stamp for each extra, made anew when the requirements change.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: pyproject.toml tools/setup_venv.sh
	tools/setup_venv.sh $(PYTHON) $(VENV) $*
	@touch $@
