# mxfleet: `make up` runs the whole cluster on this machine, `make test` tests everything. VAR=dir PORT_BASE=n: another one.
SHELL := /bin/bash
PY := .venv/bin/python
export VAR PORT_BASE DNS_UPSTREAM

.DEFAULT_GOAL := help
.PHONY: audit drill model-spool bench-sync faults-sync model-sync help ready up down clean status demo test bench-spool bench-quarantine bench-relay bench-smtp fuzz-smtp lint format docs

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

ready:
	@control/local/prepare.sh

up: ready ## Start the whole cluster (installs what is missing); harmless again
	@$(PY) -m control.local.up

down: ready ## Stop it; its data stay
	@$(PY) -m control.local.down

clean: ready ## Stop it and remove its data
	@$(PY) -m control.local.down --clean

status: ready ## What runs, on one screen
	@$(PY) -m control.local.status

demo: up ## The main job, narrated, on the running cluster
	@$(PY) -m control.local.demo

test: ## Every test, a private cluster included
	@control/local/prepare.sh --tests
	@$(PY) -m pytest -q -n 2 --dist loadgroup $(ARGS)

bench-smtp: ready ## CPU a mail costs a node and the peers found here, and what a crowd costs (SHORT=1: that it runs)
	@$(PY) -m tests.bench.smtp $(if $(SHORT),--short) $(ARGS)
	@$(PY) -m tests.bench.crowd $(if $(SHORT),--short)

fuzz-smtp: ready ## Mutated dialogues against the SMTP front for SECONDS (60), its report in var/fuzz-smtp.json
	@$(PY) -m tests.fuzz.smtp --seconds $(or $(SECONDS),60) $(ARGS)

bench-relay: ready ## CPU a relayed mail costs, our client beside aiosmtplib (needs Debian's postfix for smtp-sink)
	@$(PY) -m tests.bench.relay

bench-spool: ready ## What a kept mail costs each leg of the spool, adds to a reply, and takes in a backlog (SHORT=1: that it runs)
	@$(PY) -m tests.bench.spool $(if $(SHORT),--short) $(ARGS)

bench-quarantine: ready ## Fill a quarantine with ROWS mails (10000000) and ask it (BENCH_DIR, KEEP=1; ROWS=50000: that it runs)
	@$(PY) -m tests.bench.quarantine --rows $(or $(ROWS),10000000) $(ARGS)

drill: ready ## Break a cluster under load, fault by fault (SHORT=1, ONLY="names", DEMO=path of a running one)
	@$(PY) -m tests.drill $(if $(DEMO),--demo $(DEMO)) $(if $(SHORT),--short) $(if $(ONLY),--only $(ONLY)) $(ARGS)

audit: ready ## Were REPLIES (1000) spoken after two hosts had synced the copy? Asked of the kernel, by strace; also without PostgreSQL
	@$(PY) -m tests.drill.audit --replies $(or $(REPLIES),1000) $(if $(DEMO),--demo $(DEMO)) $(ARGS)

model-spool: ready ## The spool's model: real code, simulated hosts, for STEPS and SEEDS; its report in var-spool-model/
	@$(PY) -m tests.syncd.spool.model --steps $(or $(STEPS),1000000) --seeds $(or $(SEEDS),10000) $(ARGS)

bench-sync: ready ## The way of a setting with DOMAINS (100000): times, memory, 2 to 50 nodes; DOMAINS=2000 is the short form
	@$(PY) -m tests.bench.sync --domains $(or $(DOMAINS),100000) $(if $(filter 2000,$(DOMAINS)),--changes 50 --no-many) $(ARGS)

faults-sync: ready ## Settings under faults, with the counts of a long run (some 20 minutes)
	@FAULTS=long $(PY) -m pytest -q tests/syncd/faults $(ARGS)

model-sync: ready ## Settings sync's model for STEPS (200000): real code, simulated services; report in var/model-sync.json
	@$(PY) -m tests.syncd.model --steps $(or $(STEPS),200000) $(ARGS)

lint: ready ## Style, types, import rules, Terraform's format
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@if command -v terraform >/dev/null; then terraform fmt -check -recursive terraform; else echo "no terraform: its format is not checked"; fi

format: ready ## Put the code into its form
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

docs: ready ## Write the pages that are made from the declarations
	@$(PY) -m mx.filters.describe > docs/filters.md
	@$(PY) -m monitoring.describe > docs/metrics.md
	@$(PY) -m control.quarantine.page
