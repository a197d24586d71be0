# Two commands for a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
PROMPT ?= a blue cube slides to the right on a wooden floor at sunset, the camera orbits left

.PHONY: demo test check clean

demo: .venv/base
	.venv/bin/diorama generate "$(PROMPT)" --seed 7 --contact-sheet -o demo.mp4

test: .venv/dev
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q

check: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/base: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ .venv/base

clean:
	rm -rf .venv demo.mp4 demo-sheet.png
