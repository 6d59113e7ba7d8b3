# Every target sets up what it needs in .venv, from the pinned versions in requirements.lock.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN = runs/imagenet-digits
BIN = .venv/bin
# One more than there are cores: many tests wait for processes of their own.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(5, 1 + len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))')

.PHONY: setup train test check docs bench tensorboard clean

setup: .venv/everything

# The paper's 15-layer network, small, on two replicas and data that need no network.
train: .venv/package
	$(BIN)/python trainers/imagenet.py --strategy mirrored --virtual_devices 2 --dataset digits --run_dir $(RUN)

test: .venv/everything
	$(BIN)/python -m pytest -n $(PROCESSES)

check: .venv/everything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(MAKE) test

# The site, from docs/ and the docstrings, in build/docs. A link that leads nowhere is an error.
docs: .venv/everything
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

bench: .venv/everything
	$(BIN)/python benchmarks/layers.py

tensorboard: .venv/package
	$(BIN)/python -m tensorboard.main --logdir runs

clean:
	rm -rf .venv

.venv/package: setup.py requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable .
	touch $@

.venv/everything: .venv/package
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs,plots,tests,tuning]'
	touch $@
