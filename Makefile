# Every target sets up what it needs in .venv, from the pinned versions in requirements.lock.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN = runs/imagenet-digits
BIN = .venv/bin
# The oldest Keras that is supported, in an environment of its own.
OLDEST = 3.14.0
# One process more than there are cores: many tests wait for processes that they start.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(5, 1 + len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))')
PYTEST = $(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup

.PHONY: setup train cifar10 test test-slow test-oldest check docs dist gpu bench tensorboard clean

setup: .venv/everything

# The paper's 15-layer network, small, on two replicas and data that need no network.
train: .venv/package
	$(BIN)/python trainers/imagenet.py --strategy mirrored --virtual_devices 2 --dataset digits --run_dir $(RUN)

# CIFAR-10 in 18 epochs. It is downloaded, unless MANUAL_DIR holds its archive or its binary files.
cifar10: .venv/package
	$(BIN)/python trainers/fast_cifar.py --dataset cifar10 --validation_examples 1000 $(if $(MANUAL_DIR),--manual_dir "$(MANUAL_DIR)") --run_dir runs/fast-cifar10

test: .venv/everything
	$(PYTEST) -m "not slow and not gpu"

test-slow: .venv/everything test-oldest
	$(PYTEST) -m "slow and not gpu"

# The layers, the networks and the step on the oldest Keras.
test-oldest: .venv/oldest
	.venv/oldest/bin/python -m pytest -n $(PROCESSES) -m "not slow and not multiworker and not gpu" tests/distributed tests/layers tests/models

check: .venv/everything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

dist: .venv/everything
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .

# Everything that only GPUs can show, in one table; without one it says so and exits with 2.
gpu: .venv/everything
	$(BIN)/python benchmarks/gpu.py --check
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[cuda]'
	$(BIN)/python benchmarks/gpu.py

# The site, from docs/ and the docstrings, in build/docs. A link that leads nowhere is an error.
docs: .venv/everything
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

bench: .venv/everything
	$(BIN)/python benchmarks/layers.py

tensorboard: .venv/package
	$(BIN)/python -m tensorboard.main --logdir runs

clean:
	rm -rf .venv build dist

.venv/package: setup.py requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable .
	touch $@

.venv/everything: .venv/package
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs,plots,tests,tuning]'
	touch $@

.venv/oldest: .venv/package
	$(PYTHON) -m venv $@
	grep -v '^keras==' requirements.lock > .venv/oldest.lock
	.venv/oldest/bin/python -m pip install --quiet --constraint .venv/oldest.lock --editable '.[tests]' keras==$(OLDEST)
	touch $@
