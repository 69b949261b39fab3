# Set-up happens by itself: every target that needs Python goes through .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
DURATION ?=
MODES ?=
JSON ?=
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help demo test check bench figures clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Reused until pyproject.toml or the constraints change. The C library has no say in it: all wheels.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	    "harstream needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	@echo "Setting up $(VENV) (once; it downloads TensorFlow, so give it a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e '.[demo,train]'
	@touch $@

demo: $(VENV)/installed ## Watch simulated wearables being recognised live; DURATION=20 ends it after 20 s
	@$(BIN)/harstream demo $(if $(DURATION),--duration $(DURATION))

test: $(VENV)/installed ## Run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/installed ## Lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(VENV)/installed ## Measure this machine, each figure beside its ceiling; MODES=ingest for a part
	@$(BIN)/harstream bench $(MODES) $(if $(JSON),--json $(JSON))

figures: $(VENV)/installed ## Make tables and plots again from docs/results
	@$(BIN)/python -m research.figures docs/results

clean: ## Remove .venv and everything else that was made
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
