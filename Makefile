# make run    install what running needs, then start the edge with a demo customer and a carrier simulator
# make test   install what tests need, then run all of them:  make test ARGS="-k transfer -x"
# make lint   style, format and types
# make fuzz   search for input that breaks a parser:  make fuzz TARGET=message SECONDS=600
.PHONY: run test lint fuzz install-run install-test clean

ARGS ?=
# Files of tests that run side by side: most of them wait for phones, not for a core.
WORKERS ?= 3
TARGET ?= message
SECONDS ?= 600

run: install-run
	@exec .venv/bin/sip-edge demo up

test: install-test
	@exec .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: install-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

fuzz: install-test
	.venv/bin/pip install -q -e '.[fuzz]'
	.venv/bin/python -m tests.fuzz $(TARGET) $(SECONDS)

install-run:
	@scripts/install-debian run
	@scripts/install-venv run

install-test:
	@scripts/install-debian test
	@scripts/install-venv test

clean:
	rm -rf .venv .data tests/_artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
