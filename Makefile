# Everything from a clean clone: `make demo`, `make test`. Needs Python 3.11 or newer and make; the rest is installed
# into .venv. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
# two processes of one thread each: threads of two processes on two cores would only wait for each other
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

.PHONY: setup demo test check bench nano clean

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/mmsynth demo demo

test: setup
	$(TEST)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST)

# speed against the limit, the peers too: their environments come into .venv/peers
bench: setup
	$(BIN)/python -m tests.benchmarks --peers-in .venv/peers

# the nano models from nothing: scenes, shards, three trainings, evaluation; stops and goes on
TRAIN := $(BIN)/torchrun --nproc-per-node $(or $(PROCESSES),2) -m
nano: setup
	$(BIN)/mmsynth run examples/nano/scenes_train.yaml
	$(BIN)/mmsynth run examples/nano/scenes_heldout.yaml
	$(BIN)/mmsynth run examples/nano/scenes_diffusion.yaml
	$(BIN)/python -m examples.nano.train_towers image & $(BIN)/python -m examples.nano.train_towers text & wait
	$(TRAIN) examples.nano.train_clip
	$(TRAIN) examples.nano.train_vlm
	$(TRAIN) examples.nano.train_autoencoder
	$(TRAIN) examples.nano.train_diffusion
	$(BIN)/python -m examples.nano.evaluate --folder runs/nano --json runs/nano/figures.json --sheet runs/nano/drawn.png

clean:
	rm -rf .venv demo runs
