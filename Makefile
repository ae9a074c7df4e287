# Everything runs in `.venv`, which the first target that needs it sets up. `make` lists the targets.

PYTHON ?= python3
# The versions that made the stored outputs. Others: make test TORCH='torch>=2.9 torchvision' (in a new .venv).
TORCH ?= torch==2.14.1 torchvision==0.29.1
# More words for the command, e.g. make notebooks ARGS=--stale, make test ARGS='lint tests'
ARGS ?=

ENV := .venv
RUN := $(ENV)/bin/python
READY := $(ENV)/ready

.DEFAULT_GOAL := help
.PHONY: help book test lint format notebooks lab weights address clean clean-env

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, got %d.%d: make PYTHON=..." % sys.version_info[:2])'
	@echo "Setting up $(ENV) (the first time takes some minutes) ..."
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(ENV)
	$(RUN) -m pip install --quiet $(foreach package,$(TORCH),"$(package)")
	$(RUN) -m pip install --quiet -e ".[notebooks,book,dev]"
	@touch $@

book: $(READY) ## build the book, with clips generated on this machine
	$(RUN) -m tools.build_book

test: $(READY) ## run every check; ARGS names some of them
	$(RUN) -m tools.run_checks $(ARGS)

lint: $(READY) ## check style and the direction of imports
	$(RUN) -m tools.run_checks lint imports

format: $(READY) ## lay out the code and fix what can be fixed
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

notebooks: $(READY) ## run all notebooks and store their outputs; ARGS=--stale: only where needed
	$(RUN) -m tools.notebooks execute $(ARGS)

lab: $(READY) ## open the notebooks in JupyterLab
	$(RUN) -m jupyter lab --notebook-dir=notebooks $(ARGS)

weights: $(READY) ## train the shipped weights again
	$(RUN) -m experiments.train_clip $(ARGS)
	$(RUN) -m experiments.train_codec $(ARGS)
	$(RUN) -m experiments.train_mini $(ARGS)
	$(RUN) -m experiments.train_mini --config latent $(ARGS)

address: $(READY) ## make every link lead to your fork: URL=https://github.com/you/fork
	$(RUN) -m tools.address $(if $(URL),"$(URL)",--check)

clean: ## remove what was built, and the caches
	rm -rf _build book/_generated book/_assets/clips build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .jupyter_cache
	find . -path ./$(ENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

clean-env: ## remove .venv
	rm -rf $(ENV)
