# Every command a person types; `make help` lists them. State is kept under .nba/ (or $NBA_HOME).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
PYTEST := $(BIN)/python -m pytest

export UV_PYTHON_DOWNLOADS := never
# The machine's certificates where it has them: a company's proxy is known there and nowhere else.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)
export PYTHONUNBUFFERED := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help setup demo demo-once down clean test test-slow lint format lock hillstrom study-loop bench-capacity bench study-gate study-hillstrom study-tutorial study-harm study-missed study-learning bench-gate season season-postgres

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(INSTALLED) ## install everything into .venv (repeats only when the lock changed)

# Looks for a Python of 3.11 or later; PYTHON=… names another one.
define find_python
for candidate in "$${PYTHON:-}" python3 python3.13 python3.12 python3.11; do \
  if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    python="$$candidate"; break; fi; done; \
if [ -z "$${python:-}" ]; then \
  echo "Python 3.11 or later is needed (Debian/Ubuntu: apt install python3 python3-venv), or PYTHON=/path/to/python3 make …" >&2; exit 1; fi
endef

.tools/bin/uv:
	@$(find_python); \
	echo "installing uv into .tools"; \
	"$$python" -m venv .tools || { echo "Python's venv module is missing (Debian/Ubuntu: apt install python3-venv)" >&2; rm -rf .tools; exit 1; }; \
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv || { rm -rf .tools; exit 1; }

$(INSTALLED): requirements.lock pyproject.toml | $(UV)
	@$(find_python); \
	if ! [ -x $(BIN)/python ]; then "$(UV)" venv --quiet --python "$$python" $(VENV); fi; \
	echo "installing $$(grep -c '==' requirements.lock) packages into $(VENV)"; \
	"$(UV)" pip install --python $(BIN)/python --require-hashes -r requirements.lock; \
	"$(UV)" pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --offline --editable .; \
	touch $(INSTALLED)

demo: setup ## the whole loop on this machine; stays up until Ctrl-C
	@$(BIN)/python -m nba_tasks.stack demo

demo-once: setup ## the same, then stop; fails when any step failed
	@$(BIN)/python -m nba_tasks.stack demo --once

down: ## stop whatever the demo left running
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m nba_tasks.stack down; fi

clean: down ## stop, and forget every database, log and artefact
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m nba_tasks.stack forget; fi

test: setup ## unit and integration tests (at most 20 minutes on 2 cores)
	@$(PYTEST) -m "not slow"

test-slow: setup programs ## real scheduler, real browser, oldest PostgreSQL, statistics (at most 50 minutes)
	@$(PYTEST) -m slow

.PHONY: programs
programs: # a browser and Redis, for the tests that need them, which are skipped where there is none
	@if command -v chromium > /dev/null && command -v redis-server > /dev/null; then exit 0; fi; \
	install="apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core redis-server"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  echo "installing Debian's chromium and redis-server"; \
	  { apt-get update -qq && $$install; } < /dev/null > /dev/null 2>&1 || echo "chromium or redis-server is not to be had here: their tests are skipped" >&2; \
	else echo "without chromium or redis-server their tests are skipped (as root: $$install)" >&2; fi

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict nba_tasks tests dags bench

format: setup ## let ruff rewrite the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: | $(UV) ## resolve requirements.lock anew (UPGRADE=1: to the newest versions)
	@"$(UV)" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  $(if $(UPGRADE),--upgrade) --group dev pyproject.toml --output-file requirements.lock

hillstrom: setup ## real customers of a randomised e-mail test: DATA=hillstrom.csv.xz
	@if [ -z "$(DATA)" ]; then echo 'say where the data is: make hillstrom DATA=path/to/hillstrom.csv.xz' >&2; exit 1; fi
	@$(BIN)/python -m nba_tasks.stack hillstrom "$(DATA)"

.PHONY: study-harm
study-harm: setup ## candidates at the harm margin: how often they pass (QUICK=1: minutes)
	@$(BIN)/python -m bench.study_harm $(if $(QUICK),--quick)

study-loop: setup ## learn and gate where the truth is known: STUDY=testbed or sales_channels, SEEDS=20
	@$(BIN)/python -m bench.study_loop $(STUDY) --seeds $(or $(SEEDS),20)

season: setup ## half a year of the whole loop against three other ways to choose; QUICK=1; SEASONS=200; MINUTES=7: then go on later
	@$(BIN)/python -m bench.season $(if $(QUICK),--quick) $(if $(SEASONS),--seasons $(SEASONS)) $(if $(MINUTES),--minutes $(MINUTES))

season-postgres: setup ## a season through Postgres and the real steps: the lists are those of the fast path; WEEKS=5
	@$(BIN)/python -W ignore -m bench.season_postgres $(if $(WEEKS),--weeks $(WEEKS))

bench-capacity: setup ## prices and the draw for a large night under capacities and a budget: CUSTOMERS=1900000
	@$(BIN)/python -m bench.capacity --customers $(or $(CUSTOMERS),1900000)

bench: setup ## the night at the size of a real CRM, beside its floors: SCALE=0.1 for a quick look
	@$(BIN)/python -m bench.scale --scale $(or $(SCALE),1)

.PHONY: screenshots
screenshots: setup programs ## the pictures of docs/review-a-promotion.md, from the demo's customers; needs Debian's chromium
	@$(BIN)/python -m bench.screenshots

.PHONY: bench-pages
bench-pages: setup ## how fast the pages answer with years of gates and 1.9 million decisions
	@$(BIN)/python -m bench.pages

study-gate: setup ## count the gate's errors where the truth is known; QUICK=1: two minutes; MINUTES=7: then go on later
	@$(BIN)/python -m bench.study_gate $(if $(QUICK),--quick) $(if $(MINUTES),--minutes $(MINUTES))

study-missed: setup ## how often a gain of 20% is missed, with the choice of λ; QUICK=1; MINUTES=7: then go on later
	@$(BIN)/python -m bench.study_missed $(if $(QUICK),--quick) $(if $(MINUTES),--minutes $(MINUTES))

study-learning: setup ## learned policies beside every baseline where the truth is known; QUICK=1; MINUTES=7
	@$(BIN)/python -m bench.study_learning $(if $(QUICK),--quick) $(if $(MINUTES),--minutes $(MINUTES))

bench-gate: setup ## the gate's seconds beside bare prediction: WINDOWS=400000
	@$(BIN)/python -m bench.gate_speed --windows $(or $(WINDOWS),400000)

PEERS := .tools/peers
$(PEERS)/.installed: bench/peers-requirements.txt $(INSTALLED)
	@$(BIN)/python -m venv --clear $(PEERS); \
	echo "installing the peers into $(PEERS)"; \
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<; \
	for site in $(PEERS)/lib/python*/site-packages; do echo "$(CURDIR)/$(VENV)/lib/$$(basename $$(dirname $$site))/site-packages" > $$site/project.pth; done; \
	touch $@

.PHONY: bench-peers
bench-peers: $(PEERS)/.installed ## policies of d3rlpy, and estimates of d3rlpy, SCOPE-RL and OBP, beside ours; QUICK=1; MINUTES=7: then go on later
	@PYTHONPATH=. $(PEERS)/bin/python -W ignore -m bench.peers $(if $(QUICK),--quick) $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: bench-learning
bench-learning: setup ## a sweep over frozen trees beside one that trains anew: TRANSITIONS=5000000
	@$(BIN)/python -m bench.learning_speed --transitions $(or $(TRANSITIONS),5000000)

study-hillstrom: setup ## every estimator against the randomised truth: DATA=hillstrom.csv.xz, QUICK=1, MINUTES=7
	@if [ -z "$(DATA)" ]; then echo 'say where the data is: make study-hillstrom DATA=path/to/hillstrom.csv.xz' >&2; exit 1; fi
	@$(BIN)/python -m bench.study_hillstrom "$(DATA)" $(if $(QUICK),--quick) $(if $(MINUTES),--minutes $(MINUTES))

study-tutorial: setup ## side by side with the tutorial: values, estimates and seconds; QUICK=1 in two minutes
	@$(BIN)/python -m bench.study_tutorial $(if $(QUICK),--quick)
