# setup, demo, test and lint; each does the set-up it needs, and a second time that takes a moment.
# make test ARGS="-n 0 -k lookup" runs in one process, ARGS="-m long" runs what takes minutes.
# Python: the first of python3.11, python3.12 and python3 that is 3.11 or 3.12; choose with `make setup PYTHON=…`.

.PHONY: setup demo test lint

setup:
	@PYTHON="$(PYTHON)" tools/setup.sh

demo: setup
	.venv/bin/vla demo $(ARGS)

test: setup
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy -p vla
