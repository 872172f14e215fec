# `make serve` and `make test` need Python 3.11 or newer; what else needs more says so.
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 3000
REQUESTS ?= 100000
MINUTES ?= 10
ROUNDS ?= 5
SECONDS_EACH ?= 4
VENV := .venv
BIN := $(VENV)/bin
export BENTOML_DO_NOT_TRACK := True

.PHONY: help serve test models evaluate bench fuzz soak bento lint clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

serve: models ## Set up, make the models and serve them on PORT (3000)
	$(BIN)/bentoml serve service:Tiffin --port $(PORT)

models: $(VENV)/.training ## Make the models that the store does not have yet
	$(BIN)/python -m training

evaluate: ## Measure the models in the store; DATA=DIR names the folder with sst2/ and cifar10/
	@test -d "$(DATA)" || { echo 'make evaluate needs the folder with sst2/ and cifar10/: DATA=DIR, see README.md' >&2; exit 2; }
	$(MAKE) models
	$(BIN)/python -m training evaluate --data $(DATA)

test: $(VENV)/.development ## Run every test
	$(BIN)/python -m pytest

bench: $(VENV)/.loadtest models ## Measure speed as ratios to FastAPI and the bare session (about 20 minutes)
	@command -v wrk >/dev/null || { echo 'make bench needs wrk: apt-get install wrk, or brew install wrk' >&2; exit 2; }
	$(BIN)/python -m loadtest.bench --rounds $(ROUNDS) --seconds $(SECONDS_EACH)

fuzz: $(VENV)/.development ## Send REQUESTS (100000) requests made from the OpenAPI document
	$(BIN)/python -m tests.fuzz --requests $(REQUESTS)

soak: $(VENV)/.development ## Send mixed load for MINUTES (10) and watch memory
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

lint: $(VENV)/.loadtest ## Check style and types
	$(BIN)/pre-commit run --all-files

bento: models ## Build the Bento tiffin:latest
	$(BIN)/bentoml build

clean: ## Remove the virtual environment and what tests left
	rm -rf $(VENV) .cache

# torch comes first: what needs it would else bring a newer one.
$(VENV)/.training: requirements/serving.txt requirements/training.txt requirements/no-deps.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tiffin needs Python 3.11 or newer, set PYTHON")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements/training.txt)
	$(BIN)/python -m pip install --quiet -r requirements/training.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/no-deps.txt
	touch $@

$(VENV)/.loadtest: $(VENV)/.development requirements/loadtest.txt
	$(BIN)/python -m pip install --quiet -r requirements/loadtest.txt
	touch $@

$(VENV)/.development: $(VENV)/.training requirements/development.txt
	$(BIN)/python -m pip install --quiet -r requirements/development.txt
	touch $@
