# Two commands on a fresh machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint wheel clean

help:
	@echo "make demo   install, train the first model by score broadcast, compare it with DFA and backprop"
	@echo "make test   install, run all tests"
	@echo "make lint   ruff and pyright"
	@echo "make wheel  build the wheel into dist/"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neurosbd needs Python 3.11 or later; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/neurosbd fit digits-mlp
	@echo
	$(BIN)/python benchmarks/accuracy.py digits-mlp --rules sbd dfa bp --seeds 3
	@echo
	@echo "Where to look next:"
	@echo "  . $(BIN)/activate"
	@echo "  neurosbd list models              what ships, and its sources"
	@echo "  neurosbd show cifar10-small       every value of a model and where it comes from"
	@echo "  neurosbd data get cifar10         the data, then: neurosbd fit cifar10-small"
	@echo "  README.md                         the idea, 60 seconds, where everything stands"

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	@ls dist

clean:
	rm -rf $(VENV) dist build *.egg-info
