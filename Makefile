PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check lock

demo: .venv/ready  ## learn, score, draw and film a team: about ten minutes on two cores
	$(BIN)/vgm2p demo

test: .venv/ready  ## the test suite, without the tests marked slow
	$(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not slow"

check: .venv/ready  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## bring requirements.lock up to date; needs uv
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
