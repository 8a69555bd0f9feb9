# Every target makes .venv and installs what it needs on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PAGES  := _build/html/index.html

export TQDM_DISABLE := 1
export PYTHONHASHSEED := 0
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# many processes import the package and its tests: they are compiled once
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: setup book pdf test lint lab demo bench leaderboard robustness assignments grade clean help

setup: $(STAMP)  ## make .venv and install everything
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

book: $(STAMP)  ## render the whole book, every notebook executed, into _build/html
	@$(BIN)/python tools/build_book.py

$(PAGES):
	@$(MAKE) --no-print-directory book

pdf: $(STAMP) $(PAGES)  ## the book as one PDF, _build/book.pdf, printed by Chromium
	@$(BIN)/python tools/print_book.py

test: $(STAMP) $(PAGES)  ## every check that CI runs
	@$(BIN)/python tools/check.py

lint: $(STAMP)  ## lint, format and import direction alone
	@$(BIN)/python tools/check.py lint format imports notebooks-clean

lab: $(STAMP)  ## JupyterLab on the chapters
	@env -u TQDM_DISABLE -u OMP_NUM_THREADS $(BIN)/jupyter lab book

demo: $(STAMP)  ## crossattn demo: bars to report.html, on a simulated market
	@env -u TQDM_DISABLE -u OMP_NUM_THREADS $(BIN)/crossattn demo --out demo

bench: $(STAMP)  ## benchmarks and studies: speed against peers, recovery, error rates
	@$(BIN)/python -m pytest tests/benchmarks -q -s -p no:cacheprovider --timeout=0 --figures book/speed.json

MODELS ?=
SCENARIOS ?= static,null,factor,asynchronous,switching,gated,regimes,threshold,hub,crisis,delays,falls,volume,concave,levels,sectors,mover,hours,drift,products,spillover,us_stocks,us_tech,us_indices,us_volatility,us_markets
leaderboard: $(STAMP)  ## LeadLagBench: run what the book's leaderboard lacks (hours): make leaderboard MODELS=zero
	@$(BIN)/crossattn bench $(if $(MODELS),--models $(MODELS)) --scenarios $(SCENARIOS) --seeds 3 --out book/leaderboard

CHAPTERS ?=
SEEDS ?= 10
robustness: $(STAMP)  ## which claims hold on fresh seeds: make robustness CHAPTERS="05 13" SEEDS=10
	@$(BIN)/python tools/robustness.py $(CHAPTERS) --seeds $(SEEDS)

assignments: $(STAMP)  ## what students get, generated from book/assignments/source
	@$(BIN)/python tools/assignments.py

SUBMISSIONS ?= submitted
OUT ?= feedback
grade: $(STAMP)  ## grade a folder: make grade SUBMISSIONS=dir OUT=dir
	@PYTHONPATH=tools $(BIN)/python -m grading.grade "$(SUBMISSIONS)" --out "$(OUT)"

clean:  ## remove what was built (not .venv)
	rm -rf _build demo runs .pytest_cache .ruff_cache .import_linter_cache .hypothesis

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
