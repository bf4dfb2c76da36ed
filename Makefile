# setup, demo, test and lint; each does the set-up it needs, and a second time that takes a moment.
# Python: the first of python3.11, python3.12 and python3 that is 3.11 or 3.12; choose with `make setup PYTHON=…`.

.PHONY: setup demo test lint

setup:
	@PYTHON="$(PYTHON)" tools/setup.sh

demo: setup
	.venv/bin/vla demo $(ARGS)

test: setup
	.venv/bin/python -m pytest $(ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy -p vla
