# Every target prepares what it needs by itself (tools/setup.sh); the second time that takes no time.
# Options for the command behind a target go into ARGS, for example: make demo ARGS=--json
# Recipes are silent and set-up talks on stderr, so stdout holds only what the command itself prints.

.PHONY: help demo up test drill lint format bench setup lock clean
.DEFAULT_GOAL := help
ARGS ?=
ORDERS ?= 300
# Tests wait for servers a good third of their time: half as many workers again as there are cores keep these busy.
WORKERS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
BIN := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: ## one certificate, for real: requested, approved, issued, installed on nginx, served (ARGS=--json, --keep DIR)
	@tools/setup.sh demo
	@exec $(BIN)/certgate demo $(ARGS)

up: ## everything on this machine, until Ctrl-C (ARGS=--headless)
	@tools/setup.sh demo
	@exec $(BIN)/certgate up $(ARGS)

test: ## all tests, with the real servers, on all cores (ARGS=tests/worker, -k NAME, -n 0)
	@tools/setup.sh test
	@exec $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

drill: ## every order exactly once: 300 from each CA while processes are killed and connections cut; installs that fail at every step (ORDERS=1000)
	@tools/setup.sh test
	@CERTGATE_DRILL=$(ORDERS) exec $(BIN)/pytest --numprocesses=logical --dist=loadfile --timeout=3600 tests/connectors/ca tests/connectors/endpoints tests/system/test_kill.py -k "every_order or at_random or at_each_step" $(ARGS)

lint: ## ruff, mypy --strict, import-linter
	@tools/setup.sh test
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: ## put the code into shape
	@tools/setup.sh test
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

bench: ## requests a second and approved-to-served time, against a bare workflow (ARGS=--json)
	@tools/setup.sh test
	@exec $(BIN)/python -m bench $(ARGS)

setup: ## only the set-up, for tests and development
	@tools/setup.sh test

lock: ## regenerate requirements/ from pyproject.toml (ARGS=--upgrade)
	@tools/setup.sh test
	@tools/lock.sh $(ARGS)

clean: ## remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
