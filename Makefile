PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check report tables picture clips lock

demo: .venv/ready  ## learn, score, draw and film a team: some minutes on two cores
	$(BIN)/vgm2p demo

test: .venv/ready  ## the test suite, without the tests marked slow or browser
	$(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not slow and not browser"

check: .venv/ready  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

report: .venv/ready  ## the page of the committed results
	$(BIN)/vgm2p report -o build/report.html

tables: .venv/ready  ## put the records' tables into docs/
	$(BIN)/python docs/tables.py

picture: report  ## the head of the page, for the README; needs Debian's chromium
	$(BIN)/python docs/picture.py build/report.html docs/report.png

clips: .venv/ready  ## a film of VGM²P on every set, from the runs of `vgm2p claims table`
	for run in $$(dirname runs/table/twin/*/vgm2p/result.json); do \
		$(BIN)/vgm2p play $$run --seconds 6 --video results/clips/$$(basename $$(dirname $$run)).mp4; \
	done

lock:  ## bring requirements.lock up to date; needs uv
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
