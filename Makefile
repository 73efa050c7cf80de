# `make demo` and `make test` do all set-up themselves; the second call starts in seconds.
.POSIX:
.PHONY: help env test-env demo demo-all test test-cluster lint docs dist clean
BIN = .venv/bin

help:
	@echo 'make demo   train, decode and compare two small speech models (about 14 minutes on 2 cores)'
	@echo 'make demo-all  the same for all tasks: also translation, understanding, summarisation'
	@echo 'make test   all tests and checks'
	@echo 'make test-cluster  the tests on a Slurm of this machine (CONTRIBUTING.md)'
	@echo 'make lint   the checks alone: ruff, import layers, shellcheck'
	@echo 'make docs   the documentation as a site: build/site/index.html'
	@echo 'make dist   the wheel, dist/*.whl, tried in environments of its own'
	@echo 'make env    only make .venv, without the packages of the tests'
	@echo 'make clean  remove .venv and caches; data and experiments of the recipes stay'

env:
	@tools/setup_env.sh

test-env:
	@tools/setup_env.sh --tests

demo: env
	@tools/demo.sh

demo-all: env
	@tools/demo_all.sh

# One thread a worker: the workers share the cores.
test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m 'not slow and not gpu and not cluster'

# They share one Slurm, so they run one after the other.
test-cluster: test-env
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'cluster and not slow' test/cluster

lint: test-env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@tools/lint_shell.sh

# A warning, such as of a dead link, is an error.
docs: test-env
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'The documentation is build/site/index.html'

# The tests install it into an empty environment: with torch alone, and with the extra recipes.
dist: test-env
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q test/tools/test_dist.py
	@ls -l dist/*.whl

clean:
	rm -rf .venv build dist ./*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
