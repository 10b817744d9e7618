# `make` lists the targets. `make demo` and `make test` need nothing but make and a Debian or Ubuntu machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
BROKERS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: ## Install what is missing: RabbitMQ and Postgres programs (apt), .venv
	@scripts/setup

.PHONY: demo
demo: ## Pay real orders under kill -9 and restarts, count what was lost or doubled (ARGS="--seed 7")
	@scripts/timed "make demo" $(BIN)/reliable-tasks demo $(ARGS)

.PHONY: test
test: ## All tests, in three processes that have a private RabbitMQ and Postgres each (ARGS="-k replay")
	@scripts/timed "make test" $(BIN)/python -m pytest -n 3 $(ARGS)

.PHONY: test-javascript
test-javascript: ## A JavaScript client sends tasks; needs node and npm, which setup does not install
	@npm ci --prefix tests/foreign/javascript --ignore-scripts --no-audit --no-fund --silent
	@scripts/timed "make test-javascript" $(BIN)/python -m pytest tests/foreign/test_javascript.py $(ARGS)

.PHONY: fuzz
fuzz: setup ## A million bent messages through the decoder (ARGS="--seed 7 --inputs 50000")
	@scripts/timed "make fuzz" $(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: test-brokers
test-brokers: ## Tests on several releases of RabbitMQ, as root (BROKERS="4.0 4.3" ARGS="-k replay")
	@CI=true scripts/timed "make test-brokers" $(BIN)/python scripts/test-brokers "$(BROKERS)" $(ARGS)

.PHONY: chaos
chaos: setup ## Random faults against thousands of transfers (SEED=3 MINUTES=10 BROKER=4.3 NODES=3)
	@scripts/timed "make chaos" $(BIN)/python -m tests.chaos.random_tier $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(TRANSFERS),--transfers $(TRANSFERS)) \
		$(if $(BROKER),--broker $(BROKER)) $(if $(NODES),--nodes $(NODES)) $(ARGS)

.PHONY: chaos-docs
chaos-docs: ## docs/reliability.md, from what the runs of `make chaos` have recorded
	@$(BIN)/python -m tests.chaos.random_tier --write-docs

BENCH := var/bench/venv/bin/python -m bench

.PHONY: bench-quick
bench-quick: ## Ours beside stock Celery and Dramatiq, under five minutes (OUTPUT=json BROKER=4.3)
	@scripts/setup-bench
	@$(BENCH) quick $(if $(OUTPUT),--output $(OUTPUT)) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: bench
bench: ## Ours beside all peers and the raw limits, hours (OUTPUT=json BROKER=4.3 ARGS="--rounds 5")
	@scripts/setup-bench
	@$(BENCH) full $(if $(OUTPUT),--output $(OUTPUT)) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: bench-growth
bench-growth: ## A growth curve (CURVE=queue, table, workers or memory; ARGS="--sizes 1000,10000")
	@scripts/setup-bench
	@$(BENCH) growth $(or $(CURVE),queue) $(if $(OUTPUT),--output $(OUTPUT)) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: bench-outage
bench-outage: ## Postgres away for a minute under full load, and what is missing then (ARGS="--of broker")
	@scripts/setup-bench
	@$(BENCH) outage $(if $(OUTPUT),--output $(OUTPUT)) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: bench-profile
bench-profile: ## What each step of a task's way costs in CPU (SYSTEM=ours-none-solo2 ARGS=--idle)
	@scripts/setup-bench
	@$(BENCH) profile $(SYSTEM) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: bench-docs
bench-docs: setup ## docs/performance.md, from the last run of `make bench` or `make bench-quick`
	@$(BIN)/python -m bench docs

.PHONY: lint
lint: setup ## ruff: rules and format; deptry: dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/deptry .

.PHONY: types
types: setup ## mypy, strict
	$(BIN)/mypy

.PHONY: layers
layers: setup ## import-linter: imports run downwards, one home per dependency
	$(BIN)/lint-imports

.PHONY: compose
compose: setup ## docker-compose.yml against the compose schema
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: check
check: lint types layers compose ## All fast checks

.PHONY: clean
clean: ## Remove what was built: .venv, caches, dist
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
