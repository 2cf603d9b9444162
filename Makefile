# `make` lists the targets. Everything runs in .venv, which the first target that needs it sets up.
ROWS ?= 1000000
ENGINE ?= local
MINUTES ?= 60
FILES ?= $(addprefix burla_provider/,combine worker task database jobs hooks operators ranges)
SAMPLE ?= 100
# Python 3.11 first: the workers of `make cluster` have it.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell $(name) --version >/dev/null 2>&1 && echo $(name))))
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# A process per processor; at most 8, because each of them imports Airflow.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist
TEST := "not cluster and not ui and not wheel"

.PHONY: help check demo airflow test coverage test-ui test-cluster soak test-matrix test-wheel mutants bench bench-quick docs dist sbom audit lint cluster cluster-down clean
.DEFAULT_GOAL := help

help:
	@echo "make check          format, lint, types, import layers and unit tests, in about a minute: run it while you work"
	@echo "make lint           ruff, mypy and import-linter"
	@echo "make test           lint, and all tests that need no cluster, no browser and no wheel"
	@echo "make coverage       the same tests, and the lines of burla_provider that none of them runs"
	@echo "make test-ui        the tests of Airflow's UI in a browser (installs Debian's Chromium and Firefox if they are missing)"
	@echo "make cluster        start a real Burla cluster on this machine (Debian or Ubuntu, root)"
	@echo "make test-cluster   the tests that run on this cluster"
	@echo "make cluster-down   stop the cluster"
	@echo "make test-wheel     build the package and install it into new environments"
	@echo "make mutants        change the code in small ways, and list the changes that no test notices (FILES=, SAMPLE=percent, OPTIONS=)"
	@echo "make test-matrix    the tests on Airflow 3.1 to 3.3, Python 3.11 to 3.13, PostgreSQL 14 to 18, and the oldest packages (ENVIRONMENTS=)"
	@echo "make demo           run the example DAG on a table of 1,000,000 rows on this machine (ROWS=, ENGINE=burla)"
	@echo "make airflow        open the same database and DAGs in Airflow's UI, on http://127.0.0.1:8080 (ENGINE=burla)"
	@echo "make soak           ten DAGs in a real Airflow for an hour, while tables change and processes are killed (MINUTES=, SEED=)"
	@echo "make bench          compare this provider with other tools; writes benchmarks/RESULTS.md (run \`make cluster\` first, for Burla)"
	@echo "make bench-quick    a small version of the benchmarks, in a minute"
	@echo "make docs           build the documentation in build/docs"
	@echo "make dist           build wheel and sdist in dist"
	@echo "make sbom           write the packages that the wheel needs to build/sbom.json (CycloneDX)"
	@echo "make audit          ask the Python index for known vulnerabilities of the packages in constraints.txt"
	@echo "make clean          remove everything that these targets created, except the cluster"

demo: .venv/ready
	@$(BIN)/python -m burla_provider.demo --rows $(ROWS) --engine $(ENGINE)

airflow: .venv/ready
	@$(BIN)/python -m burla_provider.demo --rows $(ROWS) --engine $(ENGINE) --serve

check: lint
	$(PYTEST) --quiet $(PARALLEL) worksteal tests/unit

test: lint
	$(PYTEST) $(PARALLEL) worksteal -m $(TEST)

# Takes a quarter longer than `make test`.
coverage: .venv/ready
	PYTHONPATH="$(CURDIR)/tests/support/measured" $(PYTEST) $(PARALLEL) worksteal --cov --cov-report=term -m $(TEST)

test-ui: .venv/ready
	@command -v chromium > /dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes chromium > /dev/null; }
	@command -v firefox-esr > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes firefox-esr > /dev/null || echo "The tests in Firefox are skipped: firefox-esr cannot be installed."
	$(PYTEST) $(PARALLEL) loadgroup tests/ui -m ui

test-cluster: .venv/ready
	$(PYTEST) -m cluster

test-wheel: .venv/ready
	$(PYTEST) -m "wheel and not cluster"

test-matrix: .venv/ready
	$(BIN)/python -m tests.matrix.run $(ENVIRONMENTS)

# Uses the cluster, too, if it runs.
soak: .venv/ready
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# The results are in build/mutants. The next run continues. OPTIONS: --minutes 60, --retry, --budget 30.
mutants: .venv/ready
	@$(BIN)/python -m tests.mutants $(FILES) --sample $(SAMPLE) $(OPTIONS)

bench: .venv/ready .venv-bench/ready .venv-bench-daft/ready .venv-bench-guide/ready
	@command -v java > /dev/null && [ -e /usr/share/java/postgresql.jar ] || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes default-jre-headless libpostgresql-jdbc-java > /dev/null; } || echo "Spark is skipped: Java and PostgreSQL's JDBC driver cannot be installed."
	@login="$${BURLA_CLUSTER_STATE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/burla-cluster}/client.env"; [ ! -e "$$login" ] || . "$$login"; \
		$(BIN)/python -m benchmarks

bench-quick: .venv/ready
	@$(BIN)/python -m benchmarks --quick
	@$(BIN)/python -m benchmarks.import_time
	@$(BIN)/python -m benchmarks.start

# The other tools, Daft, which needs an older pyarrow, and the packages that the guide requires.
.venv-bench/ready .venv-bench-daft/ready .venv-bench-guide/ready: $(wildcard benchmarks/requirements*.txt) | .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv venv --quiet --clear --python $(BIN)/python $(@D)
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(@D)/bin/python --requirement benchmarks/requirements$(patsubst .venv-bench%,%,$(@D)).txt
	@touch $@

docs: .venv/ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/docs

dist: .venv/ready
	@rm -rf dist
	$(BIN)/python -m build --outdir dist

# The versions are those of constraints.txt.
sbom: .venv-audit/ready
	@ls dist/*.whl > /dev/null 2>&1 || $(MAKE) dist
	@mkdir -p build
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv venv --quiet --clear --python $(BIN)/python .venv-sbom
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python .venv-sbom/bin/python --constraint constraints.txt dist/*.whl
	.venv-audit/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.json .venv-sbom

audit: .venv-audit/ready
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

.venv-audit/ready: | .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv venv --quiet --clear --python $(BIN)/python $(@D)
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(@D)/bin/python 'pip-audit>=2.9,<3' 'cyclonedx-bom>=7,<8'
	@touch $@

lint: .venv/ready
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

cluster: .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" cluster/up.sh

cluster-down:
	@cluster/down.sh

clean:
	[ ! -x $(BIN)/python ] || rm -rf "$$($(BIN)/python -c 'from burla_provider.demo.__main__ import default_directory as d; print(d())')"
	[ ! -x $(BIN)/python ] || rm -rf "$$($(BIN)/python -c 'from benchmarks.data import HOME as d; print(d)')"
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist test-artifacts

# Use uv if it is installed, otherwise pip.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (once, a minute or two) ..."
	@set -e; if uv --version > /dev/null 2>&1; then \
		[ -x $(BIN)/python ] || uv venv --quiet --python "$$(command -v $(PYTHON))" .venv; \
		uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@
