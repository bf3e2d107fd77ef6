# Each command does its own set-up: `make run` on a fresh clone is enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python

.PHONY: help run test check bench format setup lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: ## start everything and open the dashboard's address (PORT=8000, AGENT=demo|claude|none)
	@scripts/setup.sh
	@exec $(PY) scripts/run.py

test: ## every test: unit, contract, integration, browser, security, a short crash test
	@scripts/test.sh

check: ## lint, format, types, import rules, hashes, known holes
	@scripts/check.sh

bench: ## the measured figures of the README, made again on this machine
	@scripts/setup.sh dev
	@exec $(PY) bench/run.py $(ARGS)

format: ## put the code into the house's form
	@scripts/setup.sh dev
	@$(PY) -m ruff check --fix-only --quiet . ; $(PY) -m ruff format .

setup: ## only the set-up: the virtual environment with everything for tests and checks
	@scripts/setup.sh dev

lock: ## pin requirements*.in with hashes again (keeps the versions that still fit)
	@scripts/setup.sh dev
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" requirements.in -o requirements.txt
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" requirements-dev.in -o requirements-dev.txt

clean: ## remove the virtual environment and the caches; what people said (.omakase) stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
