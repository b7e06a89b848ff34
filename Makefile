# Every verb makes .venv and installs what it needs; nothing has to be there but Python 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := check
.PHONY: demo test extras fuzz check checks static docs bench format clean

.venv: .venv/.installed
.venv/.installed: pyproject.toml setup.py $(wildcard service/*/native/*.cpp service/runtimes/native/*.inc service/runtimes/native/*.h)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e '.[train,dev]'
	touch $@

demo: .venv  ## log -> DIN and DIEN -> bundles -> service -> three scored users; ARGS=--once ends after the table
	$(BIN)/ctr-service demo $(ARGS)

.venv-checks: .venv-checks/.installed
.venv-checks/.installed: .ci/checks.txt
	test -x .venv-checks/bin/python || $(PYTHON) -m venv .venv-checks
	.venv-checks/bin/python -m pip install -q --no-compile -r .ci/checks.txt
	touch $@

# Two processes; those that start servers, and could disturb each other, are in one of them (tests/conftest.py).
test: .venv  ## everything, with a real Redis
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

# TorchRec by itself: what it says it needs would replace what it runs with (pyproject.toml).
.venv-extras: .venv-extras/.installed
.venv-extras/.installed: pyproject.toml
	test -x .venv-extras/bin/python || $(PYTHON) -m venv .venv-extras
	.venv-extras/bin/python -m pip install -q -e '.[train,dev,ray,mlflow,torchrec]'
	.venv-extras/bin/python -m pip install -q --no-deps torchrec==1.8.0
	touch $@

EXTRAS := test_tracking test_train_on_ray test_table_shards test_sharded_tables
extras: .venv-extras  ## what `test` skips without Ray, MLflow and TorchRec
	OMP_NUM_THREADS=1 .venv-extras/bin/python -m pytest -rs $(wildcard $(EXTRAS:%=tests/*/%.py)) $(ARGS)

fuzz: .venv .venv-checks  ## the long form of tests/fuzz: SECONDS for each fuzzer, with other cases every time
	FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest tests/fuzz $(ARGS)

check: static checks test  ## what CI requires, but for the stack

checks: .venv-checks  ## YAML, Dockerfile, Compose and Kubernetes files
	.ci/checks

static: .venv  ## formatting, lint, types, import rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell model service monitoring tests benchmarks docs examples README.md CHANGELOG.md CONTRIBUTING.md

docs: .venv-checks  ## the documents as a site in build/site; any broken link is an error
	.venv-checks/bin/mkdocs build --strict

bench: .venv  ## the short benchmarks
	$(BIN)/python -m benchmarks.score_latency

format: .venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-checks .venv-extras .demo build *.egg-info service/*/native/*.so model/nets/native/*.so
