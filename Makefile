# make demo: a generator of handwritten digits in minutes.   make test: all checks but the slow ones.
# make faults: every fault, as often as docs/faults.md says.
PYTHON ?= python3
BIN := .venv/bin
# Halves of the suite, so that a file's fixtures are made once; who is done takes from the other.
WORKERS := -n 2 --dist worksteal

.PHONY: demo test test-all faults lint format clean

demo: .venv/installed
	rm -rf runs/demo
	$(BIN)/scalegan train digits --run runs/demo
	@echo "first: source .venv/bin/activate   (so that the shell finds scalegan)"

test: lint
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: lint
	$(BIN)/python -m pytest $(WORKERS)

faults: .venv/installed
	nice $(BIN)/python -m pytest tests/faults --durations=20

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache
