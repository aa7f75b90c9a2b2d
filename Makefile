# make        sets up, then runs the default atlas      make test   sets up, then tests
# make help   lists the rest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
CHANGING := $(VENV)/.changing
PEERS ?=
# Each job is a process of its own: without bytecode on disk each would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: atlas docs rehearse test test-slurm test-faults scan coverage lint format bench lock help clean anew
.DEFAULT_GOAL := atlas

atlas: $(READY)  ## set up, then run the default atlas (snakemake)
	@$(BIN)/snakemake; status=$$?; \
	case $$status in \
	0) echo "The pictures are in results/figures/; '$(BIN)/snakemake report' puts them on one page." ;; \
	3) echo "make: only data are missing (exit status 3); all other pictures are in results/figures/." >&2 ;; \
	*) echo "make: something failed, see above (exit status $$status)" >&2 ;; \
	esac; exit $$status

rehearse: $(READY)  ## run the configs of the papers small, on made data (snakemake --config rehearse=true)
	@for name in taxonomy simplex diffusion; do \
	$(BIN)/snakemake all report --configfile config/$$name.yaml --config rehearse=true || exit; \
	done; echo "The pages are results/rehearsal/taxonomy/report.html and so on; no number there is a result."

# Cut off at any moment, the set-up is done by the same command. An environment without $(BASE) was
# cut off before it could install anything, and one with $(CHANGING) while it did so, which may have
# left half a package that counts as installed: both are made anew, from what pip and uv have kept.
$(BASE): envs/bootstrap.lock $(if $(wildcard $(CHANGING)),anew)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (make PYTHON=python3.12)")'
	@$(PYTHON) -c 'import os, re, sys; here = os.getcwd(); sys.exit(re.search(r"[^\w/.+@%=:,~-]", here) and here + ": jobs cannot start in a folder with a space or a sign of the shell in its name. Move the checkout")'
	@test ! -L $(VENV) || { echo "$(VENV) is a link: to make it anew would empty what it leads to. Remove the link, or set VENV=folder" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/bootstrap.lock
	touch $@

# Python 3.11 and 3.12 read such files by the locale: under LC_ALL=C no other letters than English ones.
define RELATIVE
import glob, os, sys
for file in glob.glob(sys.argv[1] + "/lib/python*/site-packages/__editable__.lossatlas-*.pth"):
    with open(file, "w") as text:
        print(os.path.relpath("workflow", os.path.dirname(file)), file=text)
endef
export RELATIVE

# What users run. Who has the tools of the developers keeps them: their lock file holds both.
$(READY): $(BASE) requirements.lock
	touch $(CHANGING)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $$(test -e $(READY_DEV) && echo requirements-dev.lock || echo requirements.lock)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(PYTHON) -c "$$RELATIVE" $(VENV)
	$(BIN)/python -c 'from lossatlas import warm; warm.import_all()' # compiled once, not by each of the first jobs
	rm $(CHANGING)
	touch $@

$(READY_DEV): $(READY) requirements-dev.lock
	touch $(CHANGING)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	rm $(CHANGING)
	touch $@

test: lint  ## set up, also what tests need, then lint and test
	$(BIN)/pytest -n auto --dist loadgroup

test-slurm: $(READY_DEV)  ## the atlas on a real Slurm on this machine, with faults
	$(BIN)/pytest -p no:xdist tests/slurm/on_slurm.py

test-faults: $(READY_DEV)  ## fifty kill -9 at random moments, then one comparison
	$(BIN)/pytest -p no:xdist tests/faults/kill_many.py

scan: $(READY_DEV)  ## convolutions of many shapes, and all networks, against float64 (an hour)
	cd tests && PYTHONPATH=../workflow:. ../$(BIN)/python -m scan.convolutions
	cd tests && PYTHONPATH=../workflow:. ../$(BIN)/python -m scan.networks

docs: $(READY_DEV)  ## the site of docs/ into docs/_site, with the figures that are in results/
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_site
	@echo "docs/_site/index.html"

coverage: $(READY_DEV)  ## how often 95% intervals cover, into docs/uncertainty.md (20 minutes)
	cd tests && PYTHONPATH=../workflow:. OMP_NUM_THREADS=1 ../$(BIN)/python -m intervals

lint: $(READY_DEV)  ## ruff, snakefmt, mypy, codespell, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	$(BIN)/mypy
	$(BIN)/codespell *.md config docs examples rules workflow Snakefile
	$(BIN)/snakemake --lint --quiet

format: $(READY_DEV)  ## reformat everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules workflow/Snakefile

bench: $(READY_DEV)  ## measure ratios against peers (PEERS=folder with their checkouts)
	$(BIN)/python -m benchmarks --peers "$(PEERS)"

RESOLVE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: $(BASE)  ## resolve the newest versions into the three lock files
	$(RESOLVE) --all-extras pyproject.toml -o requirements.lock
	$(RESOLVE) --all-extras --constraints requirements.lock --group dev pyproject.toml -o requirements-dev.lock
	$(RESOLVE) --constraints requirements-dev.lock --group setup -o envs/bootstrap.lock

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

clean:  ## remove the environment and caches; results stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
