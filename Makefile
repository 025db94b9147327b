# One word each; every target works as the first and only command on a machine with git, make and Python >= 3.11.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
IMAGE ?= reconciler
IMAGE_TOOL ?= $(shell for tool in docker podman buildah; do command -v "$$tool" >/dev/null && { echo "$$tool"; break; }; done)
PYTEST_ARGS ?= -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo demo-kubernetes members test corpus check format coverage bench lock image image-test clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(READY) ## a fleet, a rollout, an approval and a rollback, in a throw-away folder
	@$(BIN)/reconciler demo

demo-kubernetes: $(READY) ## the same on three real Kubernetes control planes (builds them with Go the first time)
	@$(BIN)/python -m tests.controlplane run -- $(BIN)/reconciler demo \
		--kubeconfig {KUBECONFIG} --contexts member-1,member-2,member-3

test: check ## the linters, then every test
	$(BIN)/pytest $(PYTEST_ARGS)

corpus: $(READY) ## replay recorded scenarios and say where we differ: a folder of them, or one, as DIR=...
	@$(BIN)/python -m tests.corpus "$(or $(DIR),tests/corpus/recorded)"

check: $(READY) ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY) ## let ruff write the form it checks
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

coverage: $(READY) ## the tests again, with the branches that none of them took
	$(BIN)/pytest $(PYTEST_ARGS) --cov --cov-report=term

members: $(READY) ## three real Kubernetes control planes, until Ctrl-C (builds them with Go the first time)
	$(BIN)/python -m tests.controlplane up --count 3

bench: $(READY) ## one figure per file of benchmarks/, each beside its floor
	@for file in benchmarks/[a-z]*.py; do [ -e "$$file" ] || continue; echo "$$file"; $(BIN)/python "$$file" || exit 1; done

lock: ## pin every dependency anew, with hashes, from the ranges in pyproject.toml
	rm -rf $(VENV)-lock
	$(call python) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check --quiet install 'pip-tools>=7.4'
	$(call compile,requirements.lock,--extra dev)
	$(call compile,requirements-runtime.lock,--constraint requirements.lock)
	rm -rf $(VENV)-lock

image: ## build the container image, from python:3.11-slim-bookworm unless BASE says otherwise
	$(if $(IMAGE_TOOL),,$(error make image needs docker, podman or buildah))
	$(IMAGE_TOOL) build $(if $(BASE),--build-arg BASE=$(BASE)) --tag $(IMAGE) .

image-test: ## build the image on a base made here, run it read-only and as nobody (root, Debian; needs no registry)
	tests/image/run.sh

clean: ## forget what can be made again
	rm -rf $(VENV) $(VENV)-lock build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage

# The lock is complete, so pip resolves nothing (a release newer than the lock cannot get in its way).
# A changed lock makes the environment from nothing, so that no package stays behind; a changed pyproject.toml only
# installs the project again. Each mark is written last: what was interrupted is begun anew.
$(LOCKED): requirements.lock
	@rm -rf $(VENV)
	@echo "making $(VENV) from requirements.lock"
	@$(call python) -m venv $(VENV)
	@$(PIP) install --no-deps --require-hashes --only-binary :all: --requirement requirements.lock
	@$(PIP) check
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

python = $(if $(PYTHON),$(PYTHON),$(error this needs Python 3.11 or newer: no python3 on the PATH is; set PYTHON))
compile = $(VENV)-lock/bin/pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --resolver backtracking \
	--output-file $(1) $(2) pyproject.toml
