# Everything that CI does, a person can do with one of these verbs. `make` alone lists them.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lvs-agents
GEN := $(CACHE)/gen-venv
GUEST := $(BIN)/python -m lab.boot
PACKAGES := agent_common agent_director agent_realserver cli

.PHONY: help setup demo lab test faults fuzz lint gen bench deb clean
.DEFAULT_GOAL := help

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*##/ {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## make the venv and fetch the lab's kernel (every verb does so when it must)
	@lab/fetch >/dev/null

$(VENV)/ready: pyproject.toml constraints.txt
	python3 -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cli,dev]'
	touch $@

demo: setup ## lvs add-backend on a real kernel, answers through the VIP, then a failure and its rollback
	$(GUEST) --timeout 240 -- python -m lab.demo

lab: setup ## an LVS site to play with, in a shell
	$(GUEST) --tty -- python -m lab.shell

test: lint ## lint, the tests that need no kernel, and those that run in the lab
	$(BIN)/python -m pytest tests --ignore tests/lab --numprocesses $$(($$(nproc) * 3 / 2)) # they wait a third of the time
	$(BIN)/python -m lab.suite

faults: setup ## every fault at every step, the protocol in wide bounds, and all else of which `make test` runs a sample
	$(BIN)/python -m pytest tests/protocol --wide --numprocesses auto
	$(BIN)/python -m lab.suite --guests 2 --timeout 6000 --faults all

fuzz: setup ## messages, bytes, files and answers at random, and hostile clients: FUZZ_SECONDS (1200) and some minutes
	$(BIN)/python -m pytest tests/fuzz --fuzz $(or $(FUZZ_SECONDS),1200) --capture no

lint: setup $(GEN)/ready ## ruff, mypy, import rules, buf, and that the committed stubs are those of the protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES) bench lab tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint proto
	@proto/generate $(GEN)/bin --check

gen: setup $(GEN)/ready ## what is generated and committed: the stubs from the protos, the references in docs/
	@proto/generate $(GEN)/bin
	$(BIN)/python -m docs.generate_cli
	$(BIN)/python -m docs.generate_api

$(GEN)/ready: constraints-gen.txt
	mkdir -p $(GEN)
	python3 -m venv --clear $(GEN)
	$(GEN)/bin/pip install --quiet --disable-pip-version-check --requirement constraints-gen.txt
	touch $@

bench: setup ## start, one add-backend, a whole table beside ipvsadm -R, and health checks beside keepalived
	$(BIN)/python -m bench.start_up
	$(BIN)/python -m bench.journal
	$(GUEST) --timeout 240 -- python -m bench.add_backend
	$(GUEST) --timeout 600 -- python -m bench.table
	$(BIN)/python -m bench.health
	$(GUEST) --timeout 600 -- python -m bench.health_beside

deb: setup ## dist/lvs-agents_VERSION_ARCH.deb, for the distribution on which it is built; without root
	packaging/deb/build $(BIN)/python dist

clean: ## remove what the verbs made, except what was fetched
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
