# setup    the virtual environment and the bundled model     demo   set up, then eight agents on real files
# test     set up, then every test                           check  style, types, import contracts, size ceilings
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AGENT_SDK := $(VENV)/.agent-sdk
DIR ?=

.PHONY: setup model demo test agent-sdk check format lock clean

setup: $(STAMP) model

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "Shoal needs Python 3.11 or 3.12; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies (about 230 MB to download the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

model: $(STAMP)
	@$(BIN)/shoal models fetch

demo: setup
	@$(BIN)/shoal demo $(if $(DIR),--dir "$(DIR)")

test: setup agent-sdk
	@$(BIN)/python -m pytest

# With its command line: what one test drives.
agent-sdk: $(AGENT_SDK)

$(AGENT_SDK): requirements-agent-sdk.lock $(STAMP)
	@echo "installing the Claude Agent SDK, which a test drives (about 160 MB to download the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-agent-sdk.lock
	@touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/ceilings.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs uv (https://docs.astral.sh/uv/): pins every dependency of every platform with its hashes.
lock:
	uv pip compile pyproject.toml --extra cpu --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header --upgrade --quiet --output-file requirements.lock
	echo "claude-agent-sdk>=0.2.187,<0.3" | uv pip compile - --constraints requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --quiet \
		--output-file requirements-agent-sdk.lock

clean:
	rm -rf $(VENV) build *.egg-info
