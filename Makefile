# Set-up happens by itself: every target that needs Python goes through .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
DURATION ?=
MODES ?=
JSON ?=
FUZZ ?=
RUNS ?= 1000000
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
# One process more than cores: some tests wait for a server.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile
PYTEST_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help home-assistant demo test test-all check coverage fuzz soak bench figures docs clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Reused until pyproject.toml or the constraints change. The C library has no say in it: all wheels.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	    "harstream needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	@echo "Setting up $(VENV) (once; it downloads TensorFlow, so give it a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) -c constraints.txt --group dev -e '.[demo,train]'
	@touch $@

$(VENV)/docs: $(VENV)/installed
	@$(PIP) -c constraints.txt --group docs
	@touch $@

$(VENV)/fuzz: $(VENV)/installed
	@$(PIP) -c constraints.txt --group fuzz
	@touch $@

demo: $(VENV)/installed ## Watch simulated wearables being recognised live; DURATION=20 ends it after 20 s
	@$(BIN)/harstream demo $(if $(DURATION),--duration $(DURATION))

test: $(VENV)/installed ## Run the quick tests
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: test ## Run the quick tests, then the slow ones
	@$(PYTEST) -m slow $(PYTEST_ARGS)

check: $(VENV)/installed ## Lint, check types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

coverage: $(VENV)/installed ## Measure which lines and branches the quick tests reach
	@$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

fuzz: $(VENV)/fuzz ## Fuzz all decoders and the bundle loader; FUZZ="json packed" and RUNS=1000 for a part
	@$(BIN)/python -m tests.fuzz $(FUZZ) --runs $(RUNS)

soak: $(VENV)/installed ## Let two daemons live through every fault for half an hour; MINUTES=5 for less
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

home-assistant: $(VENV)/installed ## Install Home Assistant for its tests, in .venv-home-assistant
	@$(BIN)/python -m tests.home_assistant .venv-home-assistant

bench: $(VENV)/installed ## Measure this machine, each figure beside its ceiling; MODES=ingest for a part
	@$(BIN)/harstream bench $(MODES) $(if $(JSON),--json $(JSON))

figures: $(VENV)/installed ## Make tables and plots again from docs/results
	@$(BIN)/python -m research.figures docs/results

docs: $(VENV)/docs ## Build the documentation site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

clean: ## Remove .venv and everything else that was made
	@rm -rf $(VENV) .venv-home-assistant build dist site .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
