# setup, demo, test and lint; each does the set-up it needs, and a second time that takes a moment.
# make test ARGS="-n 0 -k lookup" runs in one process, ARGS="-m long" runs what takes minutes.
# Python: the first of python3.11, python3.12 and python3 that is 3.11 or 3.12; choose with `make setup PYTHON=…`.

.PHONY: setup demo test lint

setup:
	@PYTHON="$(PYTHON)" tools/setup.sh

demo: setup
	.venv/bin/vla demo $(ARGS)

# One process more than there are cores, since tests wait for disks and for each other; four at most.
WORKERS = $(shell cores=$$(nproc 2>/dev/null || echo 3); echo $$((cores < 3 ? cores + 1 : 4)))

test: setup
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy -p vla
