VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
RUN := runs/demo
GRID := configs/compare/fashion_methods.yaml
OUT = runs/compare/$(basename $(notdir $(GRID)))
JOBS := 1
# Nothing here names an index: pip and uv use whatever the machine is set up with.
# uv links files from its cache where it can, so that eight gigabytes of them are on the disk once.
INSTALL := $(UV) pip install -q --compile-bytecode --python $(PY)
KILLS := 100
EPOCHS := 6
BENCH := .venv-bench
RESOLUTION_newest := --upgrade
RESOLUTION_oldest := --resolution lowest-direct
.PHONY: install bench demo test test-newest test-oldest test-slow lint docs site compare exact fuzz lock clean

# What a user needs, in .venv.
install: $(VENV)/.installed

# The whole tour on scikit-learn's digits: pretrain, probe, compare with baselines, report. Minutes on two cores.
demo: $(VENV)/.installed
	$(VENV)/bin/contrast demo --run $(RUN)

test: $(VENV)/.installed-dev
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

# The same tests with the newest and with the oldest versions that pyproject.toml allows, each in its own environment.
test-newest test-oldest: test-%: $(VENV)/.uv
	$(UV) venv -q --clear --python $(PY) .venv-$*
	$(UV) pip install -q --compile-bytecode --python .venv-$*/bin/python $(RESOLUTION_$*) -e . --group dev
	.venv-$*/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

# What takes minutes, or needs a CUDA device.
test-slow: $(VENV)/.installed-dev
	$(PY) -m pytest -m "slow or gpu"

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Every command and snippet of README and docs.
docs: $(VENV)/.installed-dev
	$(PY) -m docs.make.run_docs

# The documentation as pages in site/, which a browser opens from the folder: it loads nothing from a network. Not with
# -q, which would hide the warnings that --strict counts.
site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# A grid of configurations x seeds, and its table: docs/compare.md. It goes on where it was interrupted.
compare: $(VENV)/.installed
	$(VENV)/bin/contrast compare $(GRID) --out $(OUT) --jobs $(JOBS)

# Runs of every method, killed inside their writes and at any moment, resumed, and compared bit for bit.
exact: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(PY) -m tests.harness.exact --kills $(KILLS) --epochs $(EPOCHS)

# Wrong input by the thousand, none of which may end in a traceback: docs/fuzzing.md. Some ten minutes on two cores.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(PY) -m tests.harness.fuzz configurations --count 2000 --jobs 2
	OMP_NUM_THREADS=1 $(PY) -m tests.harness.fuzz files --count 500 --jobs 2

# Speed and memory against floors and peers, which have an environment of their own: docs/benchmarks.md.
bench: $(BENCH)/.installed
	mkdir -p runs
	$(BENCH)/bin/python -m benchmarks --out runs/bench-1.json
	$(BENCH)/bin/python -m benchmarks --out runs/bench-2.json
	$(BENCH)/bin/python -m benchmarks.table runs/bench-1.json runs/bench-2.json --docs docs/benchmarks.md

# The exact versions, for Python 3.11 to 3.13, with no address in them.
lock: $(VENV)/.uv
	$(UV) pip compile -q --universal --python-version 3.11 --no-header --no-annotate pyproject.toml -o requirements.lock
	$(UV) pip compile -q --universal --python-version 3.11 --no-header --no-annotate pyproject.toml --group dev \
		-c requirements.lock -o requirements-dev.lock
	$(UV) pip compile -q --universal --python-version 3.11 --no-header --no-annotate requirements-bench.in \
		-c requirements.lock -o requirements-bench.lock

$(VENV)/.uv:
	@test -x $(PY) || python3 -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "make: python3 cannot make virtual environments: apt-get install python3-venv" >&2; exit 2; }
	$(VENV)/bin/pip install -q uv==0.13.9
	touch $@

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/.uv
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-deps -e .
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(INSTALL) -r requirements-dev.lock
	touch $@

$(BENCH)/.installed: requirements.lock requirements-bench.lock | $(VENV)/.uv
	python3 -m venv $(BENCH)
	$(UV) pip install -q --compile-bytecode --python $(BENCH)/bin/python \
		-r requirements.lock -r requirements-bench.lock
	$(UV) pip install -q --python $(BENCH)/bin/python --no-deps -e .
	mkdir -p runs && touch $@

clean:
	rm -rf $(VENV) $(BENCH) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
