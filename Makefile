# make        sets up, then runs the default atlas      make test   sets up, then tests
# make help   lists the rest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS ?=
# Archives that lie beside the checkout are used before any download.
export LOSSATLAS_MIRROR ?= $(abspath $(wildcard ../shared/mirror))
# Each job is a process of its own: without bytecode on disk each would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: atlas test test-slurm test-faults scan lint format bench lock help clean
.DEFAULT_GOAL := atlas

atlas: $(READY)  ## set up, then run the default atlas (snakemake)
	$(BIN)/snakemake

$(READY): requirements.lock envs/bootstrap.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (make PYTHON=python3.12)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/bootstrap.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'from lossatlas import warm; warm.import_all()' # compiled once, not by each of the first jobs
	touch $@

test: lint  ## set up, then lint and test
	$(BIN)/pytest -n auto --dist loadgroup

test-slurm: $(READY)  ## the atlas on a real Slurm on this machine, with faults
	$(BIN)/pytest -p no:xdist tests/slurm/on_slurm.py

test-faults: $(READY)  ## fifty kill -9 at random moments, then one comparison
	$(BIN)/pytest -p no:xdist tests/faults/kill_many.py

scan: $(READY)  ## convolutions of many shapes, and all networks, against float64 (an hour)
	cd tests && PYTHONPATH=../workflow:. ../$(BIN)/python -m scan.convolutions
	cd tests && PYTHONPATH=../workflow:. ../$(BIN)/python -m scan.networks

lint: $(READY)  ## ruff, snakefmt, mypy, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	$(BIN)/mypy
	$(BIN)/snakemake --lint --quiet

format: $(READY)  ## reformat everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules workflow/Snakefile

bench: $(READY)  ## measure ratios against peers (PEERS=folder with their checkouts)
	$(BIN)/python -m benchmarks --peers "$(PEERS)"

lock: $(READY)  ## resolve the newest versions into the lock files
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --constraints requirements.lock - -o envs/bootstrap.lock

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

clean:  ## remove the environment and caches; results stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
