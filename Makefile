# The commands of dreamorph. Each does all the set-up it needs, in .venv; repeating one is safe.
#
#   make run                       the default pipeline; ARGS="--env hippocampus" is handed on
#   make dashboard                 the tracked runs in a browser; PORT=8080 chooses the port
#   TORCH_INDEX=ADDRESS make run   takes torch from there too, e.g. a build without CUDA (README)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint dashboard notebook clean

BIN := .venv/bin
RESULTS := $(wildcard data/0[2-9]_*) data/01_raw/simulated mlruns

help:
	@echo "make run        run the pipeline on simulated patients, or with ARGS=\"--env ...\""
	@echo "make dashboard  look at the tracked runs"
	@echo "make notebook   walk through the last default run, as a page"
	@echo "make test       lint, types, layers and tests"
	@echo "make lint       the first three of these"
	@echo "make clean      remove all results, but no raw data of yours"

run: .venv/.ready-to-run
	@$(BIN)/kedro run $(ARGS)
	@echo "compare runs: make dashboard"

test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find notebooks -name "*.ipynb" -exec $(BIN)/nbstripout --verify {} +

dashboard: .venv/.ready-to-run
	@$(BIN)/kedro dashboard $(if $(PORT),--port $(PORT))

notebook: .venv/.ready-to-test
	@JUPYTER_PLATFORM_DIRS=1 $(BIN)/jupyter-nbconvert --to html --execute --log-level WARN \
	  --output-dir data/08_reporting notebooks/walkthrough.ipynb
	@echo "data/08_reporting/walkthrough.html"

clean:
	@for folder in $(RESULTS); do \
	  if [ -n "$$(find "$$folder" -mindepth 1 ! -name .gitkeep -print -quit 2>/dev/null)" ]; then \
	    echo "removed the contents of $$folder ($$(du -sh "$$folder" | cut -f1))"; \
	    find "$$folder" -mindepth 1 ! -name .gitkeep -delete; \
	  fi; \
	done

# Set-up is repeated only when the requirements have changed. Tests need more than runs do.
.venv/.ready-to-run: pyproject.toml constraints.txt
	$(call set-up,.)

.venv/.ready-to-test: pyproject.toml constraints.txt
	$(call set-up,.[dev])
	@touch .venv/.ready-to-run

define set-up
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  python=""; \
	  for each in $(PYTHON) python3 python3.11 python3.12 python3.13; do \
	    if "$$each" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then \
	      python="$$each"; break; \
	    fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "dreamorph needs Python 3.11 or newer: install it, or name it by PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  "$$python" -m venv .venv; \
	fi
	@if [ "$$(uname)" = Linux ] && [ -z "$(TORCH_INDEX)" ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "no NVIDIA GPU here: TORCH_INDEX=ADDRESS spares several GB of CUDA libraries (README)"; \
	fi
	@echo "setting up .venv (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -c constraints.txt -e "$(1)"
	@touch $@
endef
